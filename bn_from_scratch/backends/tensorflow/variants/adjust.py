"""Batch norm with an adjustment before gamma and beta: noise that regularizes."""

from collections.abc import Callable
from typing import Any, Unpack

from keras import ops
from tensorflow import Tensor

from bn_from_scratch.backends.tensorflow.layer import BatchNorm, Operands
from bn_from_scratch.backends.tensorflow.options import Dtype, LayerOptions
from bn_from_scratch.backends.tensorflow.variants.renorm import scale_and_shift
from bn_from_scratch.spec import EPS, MOMENTUM

Pair = tuple[float | Tensor, float | Tensor]  # scale, shift


class AdjustedBatchNorm(BatchNorm):
    """Training scales and shifts X_hat before gamma and beta do.

    adjustment: a pair (scale, shift), each a number or [C]; or a function of the shape
    [C] that returns such a pair, random perhaps, at every call.

    >>> import tensorflow as tf
    >>> layer = bn.AdjustedBatchNorm(1, adjustment=(2.0, 1.0))
    >>> layer(tf.constant([[-1.0], [1.0]]), training=True).numpy().round(2)
    array([[-1.],
           [ 3.]], dtype=float32)
    """

    variant = "adjust"

    def __init__(
        self,
        num_features: int | tuple[int, ...] | None = None,
        num_dims: int | None = None,
        eps: float = EPS,
        momentum: float | None = MOMENTUM,
        dtype: Dtype = None,
        *,
        adjustment: Pair | Callable[[tuple[int, ...]], Pair],
        **options: Unpack[LayerOptions],
    ) -> None:
        super().__init__(num_features, num_dims, eps, momentum, dtype, **options)
        self.adjustment = adjustment

    def operands(self, mean: Tensor, var: Tensor, training: bool) -> Operands:
        mean, var, gamma, beta = super().operands(mean, var, training)
        if training:
            pair: Any = self.adjustment
            pair = pair(tuple(mean.shape)) if callable(pair) else pair
            pair = [ops.convert_to_tensor(v, mean.dtype) for v in pair]
            scale, shift = pair
            gamma, beta = scale_and_shift(gamma, beta, scale, shift)
        return mean, var, gamma, beta

    def arguments(self) -> dict[str, Any]:
        return super().arguments() | {"adjustment": self.adjustment}
