"""Batch normalization as mathematics: every equation once, in float64 NumPy.

Read from top to bottom.  X is [N, C, *]: N examples, C channels on axis 1 and any
number of further axes; n is the number of values per channel, N times those axes.
The paper is Ioffe and Szegedy 2015, "Batch Normalization: Accelerating Deep Network
Training by Reducing Internal Covariate Shift" (Algorithms 1 and 2); the names are those
of the d2l chapter.  The backends translate these functions and quote the equation tags.

`axis` is the channel axis, or several: statistics are taken over all the others, and
mean, var, gamma and beta have the sizes of `axis`, in the order of X.
"""

import math
from collections.abc import Sequence

import numpy as np

Array = np.ndarray
Axis = int | tuple[int, ...]  # the channel axis, or several
EPS = 1e-5  # inside the square root: keeps a constant channel finite
MOMENTUM = 0.1  # weight of the new batch in the moving averages
CHANNEL_AXIS = 1
TINY = 1e-30  # in place of 0 where it would be divided by
LARGEST = 1e18  # its square is a float32

# --- The axis rule -------------------------------------------------------------------


def kept_axes(ndim: int, axis: Axis) -> tuple[int, ...]:
    """The axes that are not averaged over, in the order of X.  4, -1 -> (3,)."""
    axes = axis if isinstance(axis, (tuple, list)) else (axis,)
    return tuple(sorted(a % ndim for a in axes))


def reduce_axes(ndim: int, axis: Axis) -> tuple[int, ...]:
    """Axes averaged over: all but the kept.  4, 1 -> (0, 2, 3)."""
    kept = kept_axes(ndim, axis)
    return tuple(a for a in range(ndim) if a not in kept)


def stats_shape(shape: Sequence[int], axis: Axis) -> tuple[int, ...]:
    """Shape of mean, var, gamma and beta.  (8, 5, 4, 4), 1 -> (5,)."""
    return tuple(shape[a] for a in kept_axes(len(shape), axis))


def param_shape(shape: Sequence[int], axis: Axis) -> tuple[int, ...]:
    """The same shape, broadcastable against X.  (8, 5, 4, 4), 1 -> (1, 5, 1, 1)."""
    kept = kept_axes(len(shape), axis)
    return tuple(size if a in kept else 1 for a, size in enumerate(shape))


def values_per_channel(shape: Sequence[int], axis: Axis = CHANNEL_AXIS) -> int:
    """The n of the equations.  (8, 5, 4, 4), 1 -> 128."""
    return math.prod([shape[a] for a in reduce_axes(len(shape), axis)])


# --- Forward -------------------------------------------------------------------------


def batch_stats(X: Array, axis: Axis = CHANNEL_AXIS) -> tuple[Array, Array]:
    """Mean and biased variance of each channel.  X [N, C, *] -> [C], [C]."""
    axes = reduce_axes(X.ndim, axis)
    mean = X.mean(axes)  # (1)  mean = sum(X) / n
    var = np.square(X - _like(mean, X, axis)).mean(axes)  # (2)  sum((X - mean)^2) / n
    return mean, var


def normalize(
    X: Array,
    mean: Array,
    var: Array,
    gamma: Array,
    beta: Array,
    eps: float,
    axis: Axis = CHANNEL_AXIS,
) -> Array:
    """Standardize X, then scale by gamma and shift by beta.  [N, C, *] -> same."""
    mean, var, gamma, beta = (_like(v, X, axis) for v in (mean, var, gamma, beta))
    X_hat = (X - mean) / np.sqrt(var + eps)  # (3)
    return gamma * X_hat + beta  # (4)


def update_moving(
    moving_mean: Array, moving_var: Array, mean: Array, var: Array, momentum: float
) -> tuple[Array, Array]:
    """Move the moving averages one batch on.  Four [C] -> [C], [C]."""
    moving_mean = (1 - momentum) * moving_mean + momentum * mean  # (5)
    moving_var = (1 - momentum) * moving_var + momentum * var  # (6)
    return moving_mean, moving_var


def batch_norm(
    X: Array,
    gamma: Array,
    beta: Array,
    moving_mean: Array,
    moving_var: Array,
    *,
    training: bool,
    eps: float = EPS,
    momentum: float = MOMENTUM,
    axis: Axis = CHANNEL_AXIS,
    correction: int = 0,
) -> tuple[Array, Array, Array]:
    """Batch-normalize X [N, C, *]; return Y and the new moving mean and variance [C].

    `correction=1` stores the unbiased variance in the moving average (the convention of
    PyTorch); the normalization itself is always biased.
    An empty batch has no statistics and leaves the moving averages alone.
    """
    X, gamma, beta, moving_mean, moving_var = _float64(
        X, gamma, beta, moving_mean, moving_var
    )
    if not training or X.size == 0:
        Y = normalize(X, moving_mean, moving_var, gamma, beta, eps, axis)
        return Y, moving_mean, moving_var
    mean, var = batch_stats(X, axis)
    Y = normalize(X, mean, var, gamma, beta, eps, axis)
    stored = unbiased(var, values_per_channel(X.shape, axis), correction)
    mean, stored = stop_gradient(mean), stop_gradient(stored)
    return Y, *update_moving(moving_mean, moving_var, mean, stored, momentum)


def unbiased(var: Array, n: int, correction: int) -> Array:
    """The variance to store: biased (0) or unbiased (1).  [C] -> [C]."""
    return var * n / (n - correction)  # (11)


# --- Backward ------------------------------------------------------------------------


def batch_norm_backward(
    dY: Array,
    X: Array,
    gamma: Array,
    moving_mean: Array,
    moving_var: Array,
    *,
    training: bool,
    eps: float = EPS,
    axis: Axis = CHANNEL_AXIS,
) -> tuple[Array, Array, Array]:
    """Gradients of sum(dY * Y).  dY, X [N, C, *] -> dX [N, C, *], dgamma, dbeta [C].

    In training the mean and the variance are functions of X, so dX loses the part of dY
    that shifting or scaling the channel would undo: its mean and its part along X_hat.
    """
    dY, X, gamma, moving_mean, moving_var = _float64(
        dY, X, gamma, moving_mean, moving_var
    )
    axes = reduce_axes(X.ndim, axis)
    mean, var = batch_stats(X, axis) if training else (moving_mean, moving_var)
    mean, var, gamma = (_like(v, X, axis) for v in (mean, var, gamma))
    std = np.sqrt(var + eps)
    X_hat = (X - mean) / std
    dbeta = dY.sum(axes)  # (7)
    dgamma = (dY * X_hat).sum(axes)  # (8)
    dX = dY
    if training:
        n = values_per_channel(X.shape, axis)
        along = _like(dbeta, X, axis) + X_hat * _like(dgamma, X, axis)
        dX = dY - along / n  # (9)
    return gamma / std * dX, dgamma, dbeta  # (10)


# --- Statistics of some values, and of many parts ------------------------------------


def clear_padding(X: Array, mask: Array) -> Array:
    """X with 0 where padding cannot be normalized: NaN, infinite or beyond LARGEST.

    0 times NaN is NaN: one in the padding would reach the gradients of all.
    """
    return np.where(mask | (np.abs(X) < LARGEST), X, 0)


def masked_stats(
    X: Array, mask: Array, axis: Axis = CHANNEL_AXIS
) -> tuple[Array, Array, int]:
    """`batch_stats` of the positions where `mask` (broadcastable to X) is true, and n.

    No position at all gives mean 0, variance 0 and n = 0.
    """
    axes, mask = reduce_axes(X.ndim, axis), np.broadcast_to(mask, X.shape)
    n = mask.sum(axes)
    mean = np.where(mask, X, 0).sum(axes) / np.maximum(n, 1)  # (12)
    centred = np.where(mask, X - _like(mean, X, axis), 0)
    var = np.square(centred).sum(axes) / np.maximum(n, 1)  # (13)
    return mean, var, n.max()


def pool(mean: Array, var: Array, n: Array) -> tuple[Array, Array, int]:
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
    moving_mean: Array,
    moving_var: Array,
    count: int,
    mean: Array,
    var: Array,
    n: int,
    correction: int = 0,
) -> tuple[Array, Array, int]:
    """Pool a batch of n values per channel into averages over `count` values.

    What `momentum=None` does: statistics of all values so far, whatever the batches.
    """
    so_far = moving_var * (count - correction) / max(count, 1)  # undoes (11)
    mean, var = np.stack([moving_mean, mean]), np.stack([so_far, var])
    mean, var, count = pool(mean, var, np.array([count, n]))
    enough = max(count, 1 + correction)  # of fewer values var is 0, not 0 / 0
    return mean, unbiased(var, enough, correction), count


# --- Variants: other statistics, or other factors; the same normalization ------------


def ghost_batches(X: Array, ghost_size: int, order: str = "contiguous") -> list[Array]:
    """X cut along axis 0 into virtual batches.  [N, *] -> N / ghost_size of them.

    "strided" deals the examples out like cards: Keras 2's order.
    """
    groups = len(X) // ghost_size
    if order == "strided":
        return [X[g::groups] for g in range(groups)]
    return np.split(X, groups)


def renorm_factors(
    mean: Array,
    var: Array,
    like_mean: Array,
    like_std: Array,
    eps: float,
    r_max: float,
    d_max: float,
    r_min: float | None = None,
) -> tuple[Array, Array]:
    """What brings X_hat to other statistics: r * X_hat + d.  Four [C] -> [C], [C].

    Ioffe 2017, "Batch Renormalization".  Clipped, and without a gradient.
    """
    r_min = 1 / r_max if r_min is None else r_min
    mean, std = stop_gradient(mean), np.sqrt(stop_gradient(var) + eps)
    r = np.clip(std / like_std, r_min, r_max)  # (17)
    d = np.clip((mean - like_mean) / like_std, -d_max, d_max)  # (18)
    return r, d


def scale_and_shift(
    gamma: Array, beta: Array, scale: Array, shift: Array
) -> tuple[Array, Array]:
    """gamma and beta that make up for `scale * X_hat + shift` before them."""
    return gamma * scale, gamma * shift + beta  # (19)


def layer_norm(
    X: Array,
    gamma: Array,
    beta: Array,
    eps: float = EPS,
    axis: Axis | None = None,
    feature_axis: Axis = CHANNEL_AXIS,
) -> Array:
    """Normalize each example over `axis`, by default all axes but the first.

    No batch, no moving averages: Ba, Kiros and Hinton 2016, "Layer Normalization".
    gamma and beta have the sizes of `feature_axis`.
    """
    X, gamma, beta = _float64(X, gamma, beta)
    examples = 0 if axis is None else reduce_axes(X.ndim, axis)
    mean, var = batch_stats(X, examples)  # (1) (2), of an example
    X_hat = normalize(X, mean, var, np.ones_like(var), 0 * mean, eps, examples)
    return _like(gamma, X, feature_axis) * X_hat + _like(beta, X, feature_axis)  # (20)


def prediction(
    mean: Array, var: Array, gamma: Array, beta: Array, eps: float
) -> tuple[Array, Array]:
    """With given statistics, Y = factor * X + shift.  -> factor [C], shift [C]"""
    factor = gamma / np.sqrt(var + eps)  # (21)
    return factor, beta - factor * mean  # (22)


def quantize(v: Array, bits: int = 8) -> Array:
    """v on a grid of 2^bits - 1 values around 0, its largest on the edge.

    Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient
    Integer-Arithmetic-Only Inference", with zero point 0.
    """
    step = np.maximum(np.abs(v).max(), TINY) / (2 ** (bits - 1) - 1)  # (23)
    return step * np.round(v / step)  # (24)


# --- Helpers -------------------------------------------------------------------------


def stop_gradient(v: Array) -> Array:
    """The value without its derivative, where the derivative is a complex step."""
    return np.real(v)


def _float64(*arrays: Array) -> tuple[Array, ...]:
    """float64 arrays; complex ones pass, so that a derivative may be a complex step."""
    return tuple(a if np.iscomplexobj(a) else np.asarray(a, np.float64) for a in arrays)


def _like(v: Array, X: Array, axis: Axis) -> Array:
    """A [C] vector in the shape that broadcasts against X [N, C, *]."""
    return v.reshape(param_shape(X.shape, axis))
