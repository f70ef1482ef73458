"""Layer norm (Ba, Kiros and Hinton 2016): equation (20) of bn_from_scratch.spec."""

from dataclasses import KW_ONLY

import jax.numpy as jnp
from flax import linen as nn
from jax import Array
from jax.typing import DTypeLike

from bn_from_scratch import checks, spec
from bn_from_scratch.backends.jax.batch_norm import (
    CHANNEL_AXIS,
    batch_stats,
    normalize,
    promote,
)
from bn_from_scratch.backends.jax.layer import at_least_float32
from bn_from_scratch.backends.jax.signatures import sign
from bn_from_scratch.spec import EPS, Axis


def layer_norm(
    X: Array,
    gamma: Array,
    beta: Array,
    eps: float = EPS,
    axis: Axis | None = None,
    feature_axis: Axis = CHANNEL_AXIS,
) -> Array:
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


@sign
class LayerNorm(nn.Module):
    """Layer normalization with learned scale and shift.  X [N, *, C] -> same.

    It knows no batch and no moving averages: training and prediction are the same.
    axis: the axes normalized over, by default all but the first.
    feature_axis: those of gamma and beta, whose sizes are `num_features`.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> layer = bn.LayerNorm(3)
    >>> X = jnp.array([[1.0, 2.0, 3.0]])
    >>> Y, _ = layer.init_with_output(jax.random.key(0), X)
    >>> print(Y.round(2))
    [[-1.22  0.    1.22]]
    """

    num_features: int | tuple[int, ...]
    num_dims: int | None = None
    eps: float = EPS
    dtype: DTypeLike = "float32"
    _: KW_ONLY
    axis: Axis | None = None
    feature_axis: Axis = CHANNEL_AXIS

    def __post_init__(self) -> None:
        sizes = self.num_features, self.num_dims
        checks.check_layer_norm(*sizes, self.eps, self.axis, self.feature_axis)
        self.dtype = at_least_float32(self.dtype)
        super().__post_init__()

    def setup(self) -> None:
        shape = checks.tuple_of(self.num_features)
        self.gamma: Array = self.param("gamma", nn.initializers.ones, shape, self.dtype)
        self.beta: Array = self.param("beta", nn.initializers.zeros, shape, self.dtype)

    def __call__(self, X: Array, training: bool | None = None) -> Array:
        """`training` changes nothing: it lets this layer stand where BatchNorm does."""
        sizes = self.num_features, self.num_dims
        checks.check_input(X.shape, X.dtype, self.feature_axis, *sizes, False)
        axes = self.axis, self.feature_axis
        return layer_norm(X, self.gamma, self.beta, self.eps, *axes)
