"""Statistics of some of the values, and of many parts: equations (11)-(16)."""

from mxnet import np
from mxnet.numpy import ndarray

from bn_from_scratch import spec
from bn_from_scratch.backends.mxnet.batch_norm import CHANNEL_AXIS, promote
from bn_from_scratch.backends.mxnet.dtypes import like
from bn_from_scratch.spec import LARGEST, Axis


def unbiased(var: ndarray, n: int | ndarray, correction: int) -> ndarray:
    """The variance to store: biased (0) or unbiased (1).  [C] -> [C]."""
    return var + correction * var / (n - correction)  # (11)  var * n may overflow


def clear_padding(X: ndarray, mask: ndarray) -> ndarray:
    """X with 0 where padding cannot be normalized: NaN, infinite or beyond LARGEST.

    0 times NaN is NaN: one in the padding would reach the gradients of all.
    """
    usable = np.abs(promote(X)) < LARGEST
    padding = np.where(usable, X, np.zeros_like(X))
    return np.where(mask, X, padding)  # MXNet knows no `or` of booleans


def masked_stats(
    X: ndarray, mask: ndarray, axis: Axis = CHANNEL_AXIS
) -> tuple[ndarray, ndarray, ndarray]:
    """`batch_stats` of the positions where `mask` is true, and their number n.

    The mask has X's shape with 1 in place of `axis`.  No position at all gives mean 0,
    variance 0 and n = 0.
    """
    X, shape = promote(X), spec.stats_shape(X.shape, axis)
    n = mask.sum().astype(X.dtype).detach()  # the mask has been recorded
    zero = np.zeros_like(X)  # not 0: MXNet's gradient of where(mask, X, 0) is wrong
    X = np.where(mask, X, zero)  # before anything is computed from it
    mean = masked_mean(X, mask, n, axis)  # (12)
    centred = np.where(mask, X - mean, zero)
    var = masked_mean(np.square(centred), mask, n, axis)  # (13)
    return mean.reshape(shape), var.reshape(shape), n


def masked_mean(X: ndarray, mask: ndarray, n: ndarray, axis: Axis) -> ndarray:
    """As `channel_mean`, over n positions; X is 0 at all others."""
    axes, n = spec.reduce_axes(X.ndim, axis), np.maximum(n, 1)
    mean = X.sum(axes, keepdims=True) / n
    left_over = np.where(mask, X - mean, np.zeros_like(X)).sum(axes, keepdims=True) / n
    return mean + left_over.detach()


def pool(mean: ndarray, var: ndarray, n: ndarray) -> tuple[ndarray, ndarray, ndarray]:
    """Statistics of a whole from its parts.  [G, C], [G, C], [G] -> [C], [C], n.

    The law of total variance: the mean of the variances and the variance between the
    means, of groups, replicas, micro-batches or batches.
    """
    weights = n / np.maximum(n.sum(), 1)  # (14)
    weights = weights.reshape(-1, *[1] * (mean.ndim - 1))
    whole = (weights * mean).sum(0)  # (15)
    var = (weights * (var + np.square(mean - whole))).sum(0)  # (16)
    return whole, var, n.sum()


def cumulate(
    moving_mean: ndarray,
    moving_var: ndarray,
    count: ndarray,
    mean: ndarray,
    var: ndarray,
    n: int | ndarray,
    correction: int = 0,
) -> tuple[ndarray, ndarray, ndarray]:
    """Pool a batch of n values per channel into averages over `count` values.

    What `momentum=None` does: statistics of all values so far, whatever the batches.
    """
    share = (count - correction) / np.maximum(count, 1)
    so_far = moving_var * share  # undoes (11)
    n = np.array(n, dtype=count.dtype, ctx=count.ctx)
    parts = (moving_mean, mean), (so_far, var), (count, n)
    parts = ([like(count, v) for v in pair] for pair in parts)
    mean, var, count = pool(*map(np.stack, parts))
    enough = np.maximum(count, 1 + correction)  # of fewer values var is 0, not 0 / 0
    return mean, unbiased(var, enough, correction), count


def select(
    condition: bool | ndarray, values: tuple[ndarray, ...], others: tuple[ndarray, ...]
) -> tuple[ndarray, ...]:
    """`values` where the condition holds, else `others`; it may be a plain bool."""
    if isinstance(condition, bool):
        return values if condition else others
    pairs = ((v, like(v, other)) for v, other in zip(values, others, strict=True))
    return tuple(np.where(condition, v, other) for v, other in pairs)
