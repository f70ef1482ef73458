"""Statistics of some of the values, and of many parts: equations (11)-(16)."""

import torch
from torch import Tensor

from bn_from_scratch import spec
from bn_from_scratch.backends.torch.batch_norm import CHANNEL_AXIS, promote
from bn_from_scratch.spec import LARGEST, Axis


def unbiased(var: Tensor, n: int | Tensor, correction: int) -> Tensor:
    """The variance to store: biased (0) or unbiased (1).  [C] -> [C]."""
    return var + correction * var / (n - correction)  # (11)  var * n may overflow


def clear_padding(X: Tensor, mask: Tensor) -> Tensor:
    """X with 0 where padding cannot be normalized: NaN, infinite or beyond LARGEST.

    0 times NaN is NaN: one in the padding would reach the gradients of all.
    """
    usable = torch.abs(promote(X)) < LARGEST
    return torch.where(mask | usable, X, 0)


def masked_stats(
    X: Tensor, mask: Tensor, axis: Axis = CHANNEL_AXIS
) -> tuple[Tensor, Tensor, Tensor]:
    """`batch_stats` of the positions where `mask` is true, and their number n.

    The mask has X's shape with 1 in place of `axis`.  No position at all gives mean 0,
    variance 0 and n = 0.
    """
    X, shape = promote(X), spec.stats_shape(X.shape, axis)
    n = mask.sum().to(X.dtype)
    X = torch.where(mask, X, 0)  # before anything is computed from it
    mean = masked_mean(X, mask, n, axis)  # (12)
    centred = torch.where(mask, X - mean, 0)
    var = masked_mean(torch.square(centred), mask, n, axis)  # (13)
    return mean.reshape(shape), var.reshape(shape), n


def masked_mean(X: Tensor, mask: Tensor, n: Tensor, axis: Axis) -> Tensor:
    """As `channel_mean`, over n positions; X is 0 at all others."""
    axes, n = spec.reduce_axes(X.ndim, axis), n.clamp(min=1)
    mean = X.sum(axes, keepdim=True) / n
    left_over = torch.where(mask, X - mean, 0).sum(axes, keepdim=True) / n
    return mean + left_over.detach()


def pool(mean: Tensor, var: Tensor, n: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Statistics of a whole from its parts.  [G, C], [G, C], [G] -> [C], [C], n.

    The law of total variance: the mean of the variances and the variance between the
    means, of groups, replicas, micro-batches or batches.
    """
    weights = n / n.sum().clamp(min=1)  # (14)
    weights = weights.reshape(-1, *[1] * (mean.ndim - 1))
    whole = (weights * mean).sum(0)  # (15)
    var = (weights * (var + torch.square(mean - whole))).sum(0)  # (16)
    return whole, var, n.sum()


def cumulate(
    moving_mean: Tensor,
    moving_var: Tensor,
    count: Tensor,
    mean: Tensor,
    var: Tensor,
    n: int | Tensor,
    correction: int = 0,
) -> tuple[Tensor, Tensor, Tensor]:
    """Pool a batch of n values per channel into averages over `count` values.

    What `momentum=None` does: statistics of all values so far, whatever the batches.
    """
    so_far = moving_var * ((count - correction) / count.clamp(min=1))  # undoes (11)
    mean, var = torch.stack([moving_mean, mean]), torch.stack([so_far, var])
    n = n * torch.ones_like(count)  # n is a symbol while a graph is exported
    mean, var, count = pool(mean, var, torch.stack([count, n]))
    enough = count.clamp(min=1 + correction)  # of fewer values var is 0, not 0 / 0
    return mean, unbiased(var, enough, correction), count


def select(
    condition: bool | Tensor, values: tuple[Tensor, ...], others: tuple[Tensor, ...]
) -> tuple[Tensor, ...]:
    """`values` where the condition holds, else `others`; it may be a plain bool."""
    if not isinstance(condition, Tensor):  # a bool, or its symbol: export asserts it
        return values if condition else others
    pairs = zip(values, others, strict=True)
    return tuple(torch.where(condition, v, other) for v, other in pairs)
