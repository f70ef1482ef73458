"""Statistics of some of the values, and of many parts: equations (11)-(16)."""

import tensorflow as tf
from tensorflow import Tensor

from bn_from_scratch import spec
from bn_from_scratch.backends.tensorflow.batch_norm import (
    CHANNEL_AXIS,
    promote,
    shape_of,
)
from bn_from_scratch.spec import LARGEST, Axis


def unbiased(var: Tensor, n: int | Tensor, correction: int) -> Tensor:
    """The variance to store: biased (0) or unbiased (1).  [C] -> [C]."""
    n = tf.cast(n, var.dtype)
    return var + correction * var / (n - correction)  # (11)  var * n may overflow


def clear_padding(X: Tensor, mask: Tensor) -> Tensor:
    """X with 0 where padding cannot be normalized: NaN, infinite or beyond LARGEST.

    0 times NaN is NaN: one in the padding would reach the gradients of all.
    """
    usable = tf.abs(promote(X)) < LARGEST
    return tf.where(mask | usable, X, tf.zeros_like(X))


def masked_stats(
    X: Tensor, mask: Tensor, axis: Axis = CHANNEL_AXIS
) -> tuple[Tensor, Tensor, Tensor]:
    """`batch_stats` of the positions where `mask` is true, and their number n.

    The mask has X's shape with 1 in place of `axis`; without it n is [C], one number
    for each channel.  No position at all gives mean 0, variance 0 and n = 0.
    """
    X, shape = promote(X), spec.stats_shape(shape_of(X), axis)
    alike = all(mask.shape[a] == 1 for a in spec.kept_axes(X.ndim, axis))
    seen = tf.cast(mask if alike else tf.broadcast_to(mask, shape_of(X)), X.dtype)
    n = tf.reduce_sum(seen, spec.reduce_axes(X.ndim, axis), keepdims=True)
    zero = tf.zeros_like(X)
    X = tf.where(mask, X, zero)  # before anything is computed from it
    mean = masked_mean(X, mask, n, axis)  # (12)
    centred = tf.where(mask, X - mean, zero)
    var = masked_mean(tf.square(centred), mask, n, axis)  # (13)
    n = tf.reshape(n, () if alike else shape)
    return tf.reshape(mean, shape), tf.reshape(var, shape), n


def masked_mean(X: Tensor, mask: Tensor, n: Tensor, axis: Axis) -> Tensor:
    """As `channel_mean`, over n positions; X is 0 at all others."""
    axes, n, zero = spec.reduce_axes(X.ndim, axis), tf.maximum(n, 1), tf.zeros_like(X)
    mean = tf.reduce_sum(X, axes, keepdims=True) / n
    left_over = tf.reduce_sum(tf.where(mask, X - mean, zero), axes, keepdims=True) / n
    return mean + tf.stop_gradient(left_over)


def pool(mean: Tensor, var: Tensor, n: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Statistics of a whole from its parts.  [G, C], [G, C], [G] -> [C], [C], n.

    The law of total variance: the mean of the variances and the variance between the
    means, of groups, replicas, micro-batches or batches.
    """
    weights = n / tf.maximum(tf.reduce_sum(n), 1)  # (14)
    weights = tf.reshape(weights, [-1, *[1] * (mean.ndim - 1)])
    whole = tf.reduce_sum(weights * mean, 0)  # (15)
    var = tf.reduce_sum(weights * (var + tf.square(mean - whole)), 0)  # (16)
    return whole, var, tf.reduce_sum(n)


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
    n = tf.cast(n, count.dtype)
    nothing = tf.zeros_like(mean), tf.zeros_like(var)
    mean, var = select(n > 0, (mean, var), nothing)  # of no values: 0 / 0
    share = (count - correction) / tf.maximum(count, 1)
    so_far = moving_var * share  # undoes (11)
    parts = (moving_mean, mean), (so_far, var), (count, n)
    parts = ([tf.cast(v, count.dtype) for v in pair] for pair in parts)
    mean, var, count = pool(*map(tf.stack, parts))
    enough = tf.maximum(count, 1 + correction)  # of fewer values var is 0, not 0 / 0
    return mean, unbiased(var, enough, correction), count


def select(
    condition: bool | Tensor, values: tuple[Tensor, ...], others: tuple[Tensor, ...]
) -> tuple[Tensor, ...]:
    """`values` where the condition holds, else `others`; it may be a plain bool."""
    if isinstance(condition, bool):
        return values if condition else others
    pairs = zip(values, others, strict=True)
    return tuple(
        # A number of the layer changes if any of its channels does.
        tf.where(condition if v.ndim else tf.reduce_any(condition), v, other)
        for v, other in ((v, tf.cast(other, v.dtype)) for v, other in pairs)
    )
