"""Batch normalization in JAX: equations (1)-(6) of bn_from_scratch.spec."""

import jax.numpy as jnp
from flax import linen as nn
from jax.lax import stop_gradient

from bn_from_scratch import spec
from bn_from_scratch.spec import EPS, MOMENTUM

CHANNEL_AXIS = -1  # X is [N, C] or [N, H, W, C]


def promote(X):
    """X in float32 at least: 16-bit sums overflow and cancel."""
    return X.astype(jnp.promote_types(X.dtype, jnp.float32))


def channel_mean(X):
    """Mean of each channel, kept as a broadcastable shape.  [N, *, C] -> [1, 1..., C].

    A long float32 sum is inexact; the mean of what it left over corrects it (Chan,
    Golub and LeVeque 1983).  That is 0 in exact arithmetic, so it has no gradient.
    """
    axes = spec.reduce_axes(X.ndim, CHANNEL_AXIS)
    mean = jnp.mean(X, axis=axes, keepdims=True)
    left_over = jnp.mean(X - mean, axis=axes, keepdims=True)
    return mean + stop_gradient(left_over)


def batch_stats(X):
    """Mean and biased variance of each channel.  X [N, *, C] -> [C], [C]."""
    X = promote(X)
    mean = channel_mean(X)  # (1)
    var = channel_mean(jnp.square(X - mean))  # (2)
    return mean.reshape(-1), var.reshape(-1)


def normalize(X, mean, var, gamma, beta, eps):
    """Standardize X, then scale by gamma and shift by beta.  [N, *, C] -> same."""
    shape, dtype, X = spec.param_shape(X.ndim, CHANNEL_AXIS), X.dtype, promote(X)
    mean, var, gamma, beta = (v.reshape(shape) for v in (mean, var, gamma, beta))
    X_hat = (X - mean) / jnp.sqrt(var + eps)  # (3)
    return (gamma * X_hat + beta).astype(dtype)  # (4)


def update_moving(moving_mean, moving_var, mean, var, momentum):
    """Move the moving averages one batch on.  Four [C] -> [C], [C]."""
    moving_mean = (1 - momentum) * moving_mean + momentum * mean  # (5)
    moving_var = (1 - momentum) * moving_var + momentum * var  # (6)
    return moving_mean, moving_var


def batch_norm(
    X, gamma, beta, moving_mean, moving_var, *, training, eps=EPS, momentum=MOMENTUM
):
    """Batch-normalize X [N, *, C]; return Y and the new moving mean and variance.

    No argument is changed in place.  An empty batch leaves the averages alone.
    """
    if not training or 0 in X.shape:
        Y = normalize(X, moving_mean, moving_var, gamma, beta, eps)
        return Y, moving_mean, moving_var
    mean, var = batch_stats(X)
    Y = normalize(X, mean, var, gamma, beta, eps)
    mean, var = stop_gradient(mean), stop_gradient(var)
    return Y, *update_moving(moving_mean, moving_var, mean, var, momentum)


class BatchNorm(nn.Module):
    """Batch normalization with learned scale and shift.  X [N, *, C] -> same.

    X has `num_dims` axes.  The moving averages are the collection "batch_stats": make
    it mutable when `training=True`.  `init` leaves them at 0 and 1.
    """

    num_features: int
    num_dims: int
    eps: float = EPS
    momentum: float = MOMENTUM
    dtype: str = "float32"

    def __post_init__(self):
        spec.check_layer(self.num_features, self.num_dims, self.eps, self.momentum)
        super().__post_init__()

    def setup(self):
        shape = (self.num_features,)
        self.gamma = self.param("gamma", nn.initializers.ones, shape, self.dtype)
        self.beta = self.param("beta", nn.initializers.zeros, shape, self.dtype)
        stats = "batch_stats", "moving_mean", jnp.zeros, shape, self.dtype
        self.moving_mean = self.variable(*stats)
        stats = "batch_stats", "moving_var", jnp.ones, shape, self.dtype
        self.moving_var = self.variable(*stats)

    def __call__(self, X, training):
        settings = self.num_features, self.num_dims, training
        spec.check_input(X.shape, X.dtype, CHANNEL_AXIS, *settings)
        return self.train_forward(X) if training else self.eval_forward(X)

    def train_forward(self, X):
        state = self.gamma, self.beta, self.moving_mean.value, self.moving_var.value
        settings = {"eps": self.eps, "momentum": self.momentum}
        Y, moving_mean, moving_var = batch_norm(X, *state, training=True, **settings)
        if not self.is_initializing():  # init sees dummy data
            self.moving_mean.value = moving_mean.astype(self.dtype)
            self.moving_var.value = moving_var.astype(self.dtype)
        return Y

    def eval_forward(self, X):
        state = self.gamma, self.beta, self.moving_mean.value, self.moving_var.value
        return batch_norm(X, *state, training=False, eps=self.eps)[0]
