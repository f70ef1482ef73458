"""Statistics of some of the values, and of many parts: equations (11)-(16)."""

import jax.numpy as jnp
from jax import Array
from jax.lax import stop_gradient

from bn_from_scratch import spec
from bn_from_scratch.backends.jax.batch_norm import CHANNEL_AXIS, promote
from bn_from_scratch.spec import LARGEST, Axis


def unbiased(var: Array, n: int | Array, correction: int) -> Array:
    """The variance to store: biased (0) or unbiased (1).  [C] -> [C]."""
    return var + correction * var / (n - correction)  # (11)  var * n may overflow


def clear_padding(X: Array, mask: Array) -> Array:
    """X with 0 where padding cannot be normalized: NaN, infinite or beyond LARGEST.

    0 times NaN is NaN: one in the padding would reach the gradients of all.
    """
    usable = jnp.abs(promote(X)) < LARGEST
    return jnp.where(mask | usable, X, 0)


def masked_stats(
    X: Array, mask: Array, axis: Axis = CHANNEL_AXIS
) -> tuple[Array, Array, Array]:
    """`batch_stats` of the positions where `mask` is true, and their number n.

    The mask has X's shape with 1 in place of `axis`.  No position at all gives mean 0,
    variance 0 and n = 0.
    """
    X, shape = promote(X), spec.stats_shape(X.shape, axis)
    n = mask.sum().astype(X.dtype)
    X = jnp.where(mask, X, 0)  # before anything is computed from it
    mean = masked_mean(X, mask, n, axis)  # (12)
    centred = jnp.where(mask, X - mean, 0)
    var = masked_mean(jnp.square(centred), mask, n, axis)  # (13)
    return mean.reshape(shape), var.reshape(shape), n


def masked_mean(X: Array, mask: Array, n: Array, axis: Axis) -> Array:
    """As `channel_mean`, over n positions; X is 0 at all others."""
    axes, n = spec.reduce_axes(X.ndim, axis), jnp.maximum(n, 1)
    mean = X.sum(axes, keepdims=True) / n
    left_over = jnp.where(mask, X - mean, 0).sum(axes, keepdims=True) / n
    return mean + stop_gradient(left_over)


def pool(mean: Array, var: Array, n: Array) -> tuple[Array, Array, Array]:
    """Statistics of a whole from its parts.  [G, C], [G, C], [G] -> [C], [C], n.

    The law of total variance: the mean of the variances and the variance between the
    means, of groups, replicas, micro-batches or batches.
    """
    weights = n / jnp.maximum(n.sum(), 1)  # (14)
    weights = weights.reshape(-1, *[1] * (mean.ndim - 1))
    whole = (weights * mean).sum(0)  # (15)
    var = (weights * (var + jnp.square(mean - whole))).sum(0)  # (16)
    return whole, var, n.sum()


def cumulate(
    moving_mean: Array,
    moving_var: Array,
    count: Array,
    mean: Array,
    var: Array,
    n: int | Array,
    correction: int = 0,
) -> tuple[Array, Array, Array]:
    """Pool a batch of n values per channel into averages over `count` values.

    What `momentum=None` does: statistics of all values so far, whatever the batches.
    """
    share = (count - correction) / jnp.maximum(count, 1)
    so_far = moving_var * share  # undoes (11)
    mean, var = jnp.stack([moving_mean, mean]), jnp.stack([so_far, var])
    n = jnp.asarray(n, count.dtype)
    mean, var, count = pool(mean, var, jnp.stack([count, n]))
    enough = jnp.maximum(count, 1 + correction)  # of fewer values var is 0, not 0 / 0
    return mean, unbiased(var, enough, correction), count


def select(
    condition: bool | Array, values: tuple[Array, ...], others: tuple[Array, ...]
) -> tuple[Array, ...]:
    """`values` where the condition holds, else `others`; it may be a plain bool."""
    if isinstance(condition, bool):
        return values if condition else others
    pairs = zip(values, others, strict=True)
    return tuple(jnp.where(condition, v, other) for v, other in pairs)
