"""Batch normalization as mathematics: every equation once, in float64 NumPy.

Read from top to bottom.  X is [N, C, *]: N examples, C channels on axis 1 and any
number of further axes; n is the number of values per channel, N times those axes.
The paper is Ioffe and Szegedy 2015, "Batch Normalization: Accelerating Deep Network
Training by Reducing Internal Covariate Shift" (Algorithms 1 and 2); the names are those
of the d2l chapter.  The backends translate these functions and quote the equation tags.
"""

import math
import numbers

import numpy as np

EPS = 1e-5  # inside the square root: keeps a constant channel finite
MOMENTUM = 0.1  # weight of the new batch in the moving averages
CHANNEL_AXIS = 1

# --- The axis rule -------------------------------------------------------------------


def reduce_axes(ndim, channel_axis):
    """Axes averaged over: all but the channel.  4, 1 -> (0, 2, 3)."""
    return tuple(a for a in range(ndim) if a != channel_axis % ndim)


def param_shape(ndim, channel_axis):
    """Shape that broadcasts a [C] vector against X.  4, 1 -> (1, -1, 1, 1)."""
    return tuple(-1 if a == channel_axis % ndim else 1 for a in range(ndim))


def values_per_channel(shape, channel_axis=CHANNEL_AXIS):
    """The n of the equations.  (8, 5, 4, 4), 1 -> 128."""
    return math.prod([shape[a] for a in reduce_axes(len(shape), channel_axis)])


# --- Forward -------------------------------------------------------------------------


def batch_stats(X):
    """Mean and biased variance of each channel.  X [N, C, *] -> [C], [C]."""
    axes = reduce_axes(X.ndim, CHANNEL_AXIS)
    mean = X.mean(axes, keepdims=True)  # (1)  mean = sum(X) / n
    var = np.square(X - mean).mean(axes)  # (2)  var = sum((X - mean)^2) / n
    return mean.reshape(-1), var


def normalize(X, mean, var, gamma, beta, eps):
    """Standardize X, then scale by gamma and shift by beta.  [N, C, *] -> same."""
    mean, var, gamma, beta = (_like(v, X) for v in (mean, var, gamma, beta))
    X_hat = (X - mean) / np.sqrt(var + eps)  # (3)
    return gamma * X_hat + beta  # (4)


def update_moving(moving_mean, moving_var, mean, var, momentum):
    """Move the moving averages one batch on.  Four [C] -> [C], [C]."""
    moving_mean = (1 - momentum) * moving_mean + momentum * mean  # (5)
    moving_var = (1 - momentum) * moving_var + momentum * var  # (6)
    return moving_mean, moving_var


def batch_norm(
    X,
    gamma,
    beta,
    moving_mean,
    moving_var,
    *,
    training,
    eps=EPS,
    momentum=MOMENTUM,
    correction=0,
):
    """Batch-normalize X [N, C, *]; return Y and the new moving mean and variance [C].

    `correction=1` stores the unbiased variance, n / (n - 1) times `var`, in the moving
    average (the convention of PyTorch); the normalization itself is always biased.
    An empty batch has no statistics and leaves the moving averages alone.
    """
    X, gamma, beta, moving_mean, moving_var = _float64(
        X, gamma, beta, moving_mean, moving_var
    )
    if not training or X.size == 0:
        Y = normalize(X, moving_mean, moving_var, gamma, beta, eps)
        return Y, moving_mean, moving_var
    mean, var = batch_stats(X)
    Y = normalize(X, mean, var, gamma, beta, eps)
    n = values_per_channel(X.shape)
    stored = var * n / (n - correction)
    return Y, *update_moving(moving_mean, moving_var, mean, stored, momentum)


# --- Backward ------------------------------------------------------------------------


def batch_norm_backward(
    dY, X, gamma, moving_mean, moving_var, *, training, eps=EPS, momentum=MOMENTUM
):
    """Gradients of sum(dY * Y).  dY, X [N, C, *] -> dX [N, C, *], dgamma, dbeta [C].

    In training the mean and the variance are functions of X, so dX loses the part of dY
    that shifting or scaling the channel would undo: its mean and its part along X_hat.
    """
    dY, X, gamma, moving_mean, moving_var = _float64(
        dY, X, gamma, moving_mean, moving_var
    )
    axes = reduce_axes(X.ndim, CHANNEL_AXIS)
    mean, var = batch_stats(X) if training else (moving_mean, moving_var)
    std = np.sqrt(_like(var, X) + eps)
    X_hat = (X - _like(mean, X)) / std
    dbeta = dY.sum(axes)  # (7)
    dgamma = (dY * X_hat).sum(axes)  # (8)
    dX = dY
    if training:
        n = values_per_channel(X.shape)
        dX = dY - _like(dbeta, X) / n - X_hat * _like(dgamma, X) / n  # (9)
    return _like(gamma, X) / std * dX, dgamma, dbeta  # (10)


def _float64(*arrays):
    return tuple(np.asarray(a, np.float64) for a in arrays)


def _like(v, X):
    """A [C] vector in the shape that broadcasts against X [N, C, *]."""
    return v.reshape(param_shape(X.ndim, CHANNEL_AXIS))


# --- What a layer accepts ------------------------------------------------------------


def check_layer(num_features, num_dims, eps, momentum):
    """Raise TypeError or ValueError unless a layer can be built with these settings."""
    for name, value, least in (
        ("num_features", num_features, 1),
        ("num_dims", num_dims, 2),
    ):
        if not isinstance(value, numbers.Integral):
            raise TypeError(f"{name} must be an integer; got {value!r}")
        if value < least:
            raise ValueError(f"{name} must be at least {least}; got {value}")
    if not eps > 0:
        raise ValueError(f"eps must be positive; got {eps}")
    if not 0 <= momentum <= 1:
        raise ValueError(f"momentum must lie between 0 and 1; got {momentum}")


def check_input(shape, dtype, channel_axis, num_features, num_dims, training):
    """Raise TypeError or ValueError unless X of this shape and dtype suits the layer.

    A size that is not known yet (None, in a traced graph) passes.
    """
    shape = tuple(shape)
    if "float" not in str(dtype):
        raise TypeError(f"batch norm takes floating-point X; X has dtype {dtype}")
    if len(shape) != num_dims:
        raise ValueError(
            f"this layer normalizes X with {num_dims} axes; X has shape {shape}"
        )
    if shape[channel_axis] != num_features:
        raise ValueError(
            f"expected {num_features} channels on axis {channel_axis % num_dims}; "
            f"X has shape {shape}"
        )
    if training and None not in shape and values_per_channel(shape, channel_axis) == 1:
        raise ValueError(
            f"training needs more than one value per channel; X has shape {shape}"
        )
