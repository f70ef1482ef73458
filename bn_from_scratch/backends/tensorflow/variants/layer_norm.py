"""Layer norm (Ba, Kiros and Hinton 2016): equation (20) of bn_from_scratch.spec."""

from typing import Any

import keras
import tensorflow as tf
from tensorflow import Tensor

from bn_from_scratch import checks, spec
from bn_from_scratch.backends.tensorflow.batch_norm import (
    CHANNEL_AXIS,
    batch_stats,
    normalize,
    promote,
    shape_of,
)
from bn_from_scratch.backends.tensorflow.layer import (
    Dtype,
    Regularizer,
    at_least_float32,
)
from bn_from_scratch.backends.tensorflow.registry import register
from bn_from_scratch.spec import EPS, Axis


def layer_norm(
    X: Tensor,
    gamma: Tensor,
    beta: Tensor,
    eps: float = EPS,
    axis: Axis | None = None,
    feature_axis: Axis = CHANNEL_AXIS,
) -> Tensor:
    """Normalize each example over `axis`, by default all axes but the first.

    gamma and beta have the sizes of `feature_axis`.  [N, *, C] -> same.
    """
    dtype, X = X.dtype, promote(X)
    examples = 0 if axis is None else spec.reduce_axes(X.ndim, axis)
    mean, var = batch_stats(X, examples)  # (1) (2), of an example
    one, zero = tf.ones_like(var), tf.zeros_like(mean)
    X_hat = normalize(X, mean, var, one, zero, eps, examples)
    shape = spec.param_shape(shape_of(X), feature_axis)
    gamma, beta = (tf.cast(tf.reshape(v, shape), X.dtype) for v in (gamma, beta))
    return tf.cast(gamma * X_hat + beta, dtype)  # (20)


@register
class LayerNorm(keras.Layer):
    """Layer normalization with learned scale and shift.  X [N, *, C] -> same.

    It knows no batch and no moving averages: training and prediction are the same.
    axis: the axes normalized over, by default all but the first.
    feature_axis: those of gamma and beta, whose sizes are `num_features`.

    >>> import tensorflow as tf
    >>> layer = bn.LayerNorm(3)
    >>> layer(tf.constant([[1.0, 2.0, 3.0]])).numpy().round(2)
    array([[-1.22,  0.  ,  1.22]], dtype=float32)
    """

    num_features: int | tuple[int, ...]
    num_dims: int | None
    eps: float
    axis: Axis | None
    feature_axis: Axis
    gamma: keras.Variable
    beta: keras.Variable

    def __init__(
        self,
        num_features: int | tuple[int, ...],
        num_dims: int | None = None,
        eps: float = EPS,
        dtype: Dtype = None,
        *,
        axis: Axis | None = None,
        feature_axis: Axis = CHANNEL_AXIS,
        activity_regularizer: Regularizer = None,
        trainable: bool = True,
        name: str | None = None,
    ) -> None:
        super().__init__(
            activity_regularizer=activity_regularizer,
            trainable=trainable,
            dtype=dtype,
            autocast=False,
            name=name,
        )
        checks.check_layer_norm(num_features, num_dims, eps, axis, feature_axis)
        self.num_features, self.num_dims, self.eps = num_features, num_dims, eps
        self.axis, self.feature_axis = axis, feature_axis
        self.supports_masking: bool = True

    def build(self, shape: tuple[int, ...]) -> None:
        shape = checks.tuple_of(self.num_features)
        dtype = at_least_float32(self.variable_dtype)
        settings = {"dtype": dtype, "autocast": False}
        self.gamma = self.add_weight(shape, "ones", name="gamma", **settings)
        self.beta = self.add_weight(shape, "zeros", name="beta", **settings)

    def call(self, X: Tensor) -> Tensor:
        sizes = self.num_features, self.num_dims
        checks.check_input(X.shape, X.dtype, self.feature_axis, *sizes, False)
        axes = self.axis, self.feature_axis
        return layer_norm(X, self.gamma, self.beta, self.eps, *axes)

    def get_config(self) -> dict[str, Any]:
        names = "num_features", "num_dims", "eps", "axis", "feature_axis"
        return super().get_config() | {name: getattr(self, name) for name in names}
