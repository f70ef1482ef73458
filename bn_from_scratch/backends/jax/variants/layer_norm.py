"""Layer norm (Ba, Kiros and Hinton 2016): equation (20) of bn_from_scratch.spec."""

from dataclasses import KW_ONLY

import jax.numpy as jnp
from flax import linen as nn

from bn_from_scratch import checks, spec
from bn_from_scratch.backends.jax.batch_norm import (
    CHANNEL_AXIS,
    batch_stats,
    normalize,
    promote,
)
from bn_from_scratch.backends.jax.layer import at_least_float32
from bn_from_scratch.spec import EPS


def layer_norm(X, gamma, beta, eps=EPS, axis=None, feature_axis=CHANNEL_AXIS):
    """Normalize each example over `axis`, by default all axes but the first.

    gamma and beta have the sizes of `feature_axis`.  [N, *, C] -> same.
    """
    dtype, X = X.dtype, promote(X)
    examples = 0 if axis is None else spec.reduce_axes(X.ndim, axis)
    mean, var = batch_stats(X, examples)  # (1) (2), of an example
    one, zero = jnp.ones_like(var), jnp.zeros_like(mean)
    X_hat = normalize(X, mean, var, one, zero, eps, examples)
    shape = spec.param_shape(X.shape, feature_axis)
    return (gamma.reshape(shape) * X_hat + beta.reshape(shape)).astype(dtype)  # (20)


class LayerNorm(nn.Module):
    """Layer normalization with learned scale and shift.  X [N, *, C] -> same.

    It knows no batch and no moving averages: training and prediction are the same.
    axis: the axes normalized over, by default all but the first.
    feature_axis: those of gamma and beta, whose sizes are `num_features`.
    """

    num_features: int | tuple[int, ...]
    num_dims: int | None = None
    eps: float = EPS
    dtype: str = "float32"
    _: KW_ONLY
    axis: int | tuple[int, ...] | None = None
    feature_axis: int | tuple[int, ...] = CHANNEL_AXIS

    def __post_init__(self):
        sizes = self.num_features, self.num_dims
        checks.check_layer_norm(*sizes, self.eps, self.axis, self.feature_axis)
        self.dtype = at_least_float32(self.dtype)
        super().__post_init__()

    def setup(self):
        shape = checks.tuple_of(self.num_features)
        self.gamma = self.param("gamma", nn.initializers.ones, shape, self.dtype)
        self.beta = self.param("beta", nn.initializers.zeros, shape, self.dtype)

    def __call__(self, X, training=None):
        """`training` changes nothing: it lets this layer stand where BatchNorm does."""
        sizes = self.num_features, self.num_dims
        checks.check_input(X.shape, X.dtype, self.feature_axis, *sizes, False)
        axes = self.axis, self.feature_axis
        return layer_norm(X, self.gamma, self.beta, self.eps, *axes)
