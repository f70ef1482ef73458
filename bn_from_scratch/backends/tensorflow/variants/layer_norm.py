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
from bn_from_scratch.backends.tensorflow.layer import at_least_float32
from bn_from_scratch.backends.tensorflow.options import Dtype, Regularizer
from bn_from_scratch.backends.tensorflow.protocol import Norm
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
class LayerNorm(Norm):
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
            name=name,
        )
        checks.check_layer_norm(num_features, num_dims, eps, axis, feature_axis)
        self.num_features, self.num_dims, self.eps = num_features, num_dims, eps
        self.axis, self.feature_axis = axis, feature_axis
        self.add_parameter("gamma", 1)
        self.add_parameter("beta", 0)

    def build(self, shape: tuple[int, ...]) -> None:
        self.make_variables(at_least_float32(self.variable_dtype))

    def check_call(self, X: Any) -> None:
        self.check_shape(X.shape, X.dtype)

    def check_shape(self, shape: Any, dtype: Any) -> None:
        sizes = self.num_features, self.num_dims
        checks.check_input(shape, dtype, self.feature_axis, *sizes, False)

    def call(self, X: Tensor) -> Tensor:
        self.check_call(X)
        X = tf.cast(tf.convert_to_tensor(X), self.compute_dtype)
        axes = self.axis, self.feature_axis
        return layer_norm(X, self.gamma, self.beta, self.eps, *axes)

    def arguments(self) -> dict[str, Any]:
        """{name: value}: what the constructor was given, but for Keras's own."""
        names = "num_features", "num_dims", "eps", "axis", "feature_axis"
        return {name: getattr(self, name) for name in names}
