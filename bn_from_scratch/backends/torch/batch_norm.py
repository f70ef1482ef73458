"""Batch normalization in PyTorch: equations (1)-(6) of bn_from_scratch.spec."""

import torch
from torch import Tensor

from bn_from_scratch import spec
from bn_from_scratch.spec import EPS, MOMENTUM, Axis

CHANNEL_AXIS = 1  # X is [N, C] or [N, C, H, W]


def promote(X: Tensor) -> Tensor:
    """X in float32 at least: 16-bit sums overflow and cancel."""
    return X.to(torch.promote_types(X.dtype, torch.float32))


def channel_mean(X: Tensor, axis: Axis = CHANNEL_AXIS) -> Tensor:
    """Mean of each channel, kept as a broadcastable shape.  [N, C, *] -> [1, C, 1...].

    A long float32 sum is inexact; the mean of what it left over corrects it (Chan,
    Golub and LeVeque 1983).  That is 0 in exact arithmetic, so it has no gradient.
    """
    axes = spec.reduce_axes(X.ndim, axis)
    mean = torch.mean(X, dim=axes, keepdim=True)
    left_over = torch.mean(X - mean, dim=axes, keepdim=True)
    return mean + left_over.detach()


def batch_stats(X: Tensor, axis: Axis = CHANNEL_AXIS) -> tuple[Tensor, Tensor]:
    """Mean and biased variance of each channel.  X [N, C, *] -> [C], [C]."""
    X, shape = promote(X), spec.stats_shape(X.shape, axis)
    mean = channel_mean(X, axis)  # (1)
    var = channel_mean(torch.square(X - mean), axis)  # (2)
    return mean.reshape(shape), var.reshape(shape)


def normalize(
    X: Tensor,
    mean: Tensor,
    var: Tensor,
    gamma: Tensor,
    beta: Tensor,
    eps: float,
    axis: Axis = CHANNEL_AXIS,
) -> Tensor:
    """Standardize X, then scale by gamma and shift by beta.  [N, C, *] -> same."""
    shape, dtype, X = spec.param_shape(X.shape, axis), X.dtype, promote(X)
    mean, var, gamma, beta = (v.reshape(shape) for v in (mean, var, gamma, beta))
    X_hat = (X - mean) / torch.sqrt(var + eps)  # (3)
    return (gamma * X_hat + beta).to(dtype)  # (4)


def update_moving(
    moving_mean: Tensor, moving_var: Tensor, mean: Tensor, var: Tensor, momentum: float
) -> tuple[Tensor, Tensor]:
    """Move the moving averages one batch on.  Four [C] -> [C], [C]."""
    moving_mean = (1 - momentum) * moving_mean + momentum * mean  # (5)
    moving_var = (1 - momentum) * moving_var + momentum * var  # (6)
    return moving_mean, moving_var


def batch_norm(
    X: Tensor,
    gamma: Tensor,
    beta: Tensor,
    moving_mean: Tensor,
    moving_var: Tensor,
    *,
    training: bool,
    eps: float = EPS,
    momentum: float = MOMENTUM,
    axis: Axis = CHANNEL_AXIS,
) -> tuple[Tensor, Tensor, Tensor]:
    """Batch-normalize X [N, C, *]; return Y and the new moving mean and variance.

    No argument is changed in place.  An empty batch leaves the averages alone.
    """
    dtype, X = X.dtype, promote(X)  # once, or dX is rounded twice
    if not training or 0 in X.shape:
        Y = normalize(X, moving_mean, moving_var, gamma, beta, eps, axis)
        return Y.to(dtype), moving_mean, moving_var
    mean, var = batch_stats(X, axis)
    Y = normalize(X, mean, var, gamma, beta, eps, axis).to(dtype)
    mean, var = mean.detach(), var.detach()
    return Y, *update_moving(moving_mean, moving_var, mean, var, momentum)
