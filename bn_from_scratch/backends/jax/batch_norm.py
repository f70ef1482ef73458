"""Batch normalization in JAX: equations (1)-(6) of bn_from_scratch.spec."""

import jax.numpy as jnp
from jax import Array
from jax.lax import stop_gradient

from bn_from_scratch import spec
from bn_from_scratch.spec import EPS, MOMENTUM, Axis

CHANNEL_AXIS = -1  # X is [N, C] or [N, H, W, C]


def promote(X: Array) -> Array:
    """X in float32 at least: 16-bit sums overflow and cancel."""
    return X.astype(jnp.promote_types(X.dtype, jnp.float32))


def channel_mean(X: Array, axis: Axis = CHANNEL_AXIS) -> Array:
    """Mean of each channel, kept as a broadcastable shape.  [N, *, C] -> [1, 1..., C].

    A long float32 sum is inexact; the mean of what it left over corrects it (Chan,
    Golub and LeVeque 1983).  That is 0 in exact arithmetic, so it has no gradient.
    """
    axes = spec.reduce_axes(X.ndim, axis)
    mean = jnp.mean(X, axis=axes, keepdims=True)
    left_over = jnp.mean(X - mean, axis=axes, keepdims=True)
    return mean + stop_gradient(left_over)


def batch_stats(X: Array, axis: Axis = CHANNEL_AXIS) -> tuple[Array, Array]:
    """Mean and biased variance of each channel.  X [N, *, C] -> [C], [C]."""
    X, shape = promote(X), spec.stats_shape(X.shape, axis)
    mean = channel_mean(X, axis)  # (1)
    var = channel_mean(jnp.square(X - mean), axis)  # (2)
    return mean.reshape(shape), var.reshape(shape)


def normalize(
    X: Array,
    mean: Array,
    var: Array,
    gamma: Array,
    beta: Array,
    eps: float,
    axis: Axis = CHANNEL_AXIS,
) -> Array:
    """Standardize X, then scale by gamma and shift by beta.  [N, *, C] -> same."""
    shape, dtype, X = spec.param_shape(X.shape, axis), X.dtype, promote(X)
    mean, var, gamma, beta = (v.reshape(shape) for v in (mean, var, gamma, beta))
    X_hat = (X - mean) / jnp.sqrt(var + eps)  # (3)
    return (gamma * X_hat + beta).astype(dtype)  # (4)


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
) -> tuple[Array, Array, Array]:
    """Batch-normalize X [N, *, C]; return Y and the new moving mean and variance.

    No argument is changed in place.  An empty batch leaves the averages alone.
    """
    dtype, X = X.dtype, promote(X)  # once, or dX is rounded twice
    if not training or 0 in X.shape:
        Y = normalize(X, moving_mean, moving_var, gamma, beta, eps, axis)
        return Y.astype(dtype), moving_mean, moving_var
    mean, var = batch_stats(X, axis)
    Y = normalize(X, mean, var, gamma, beta, eps, axis).astype(dtype)
    mean, var = stop_gradient(mean), stop_gradient(var)
    return Y, *update_moving(moving_mean, moving_var, mean, var, momentum)
