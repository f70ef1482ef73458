"""Batch norm with an adjustment before gamma and beta: noise that regularizes."""

from collections.abc import Callable
from typing import Unpack

from mxnet.numpy import ndarray

from bn_from_scratch.backends.mxnet.dtypes import like
from bn_from_scratch.backends.mxnet.layer import (
    BatchNorm,
    Dtype,
    LayerOptions,
    Operands,
)
from bn_from_scratch.backends.mxnet.variants.renorm import scale_and_shift
from bn_from_scratch.spec import EPS, MOMENTUM

Pair = tuple[float | ndarray, float | ndarray]  # scale, shift


class AdjustedBatchNorm(BatchNorm):
    """Training scales and shifts X_hat before gamma and beta do.

    adjustment: a pair (scale, shift), each a number or [C]; or a function of the shape
    [C] that returns such a pair, random perhaps, at every call.

    >>> from mxnet import autograd, np
    >>> layer = bn.AdjustedBatchNorm(num_features=3, adjustment=(1.0, 0.5))
    >>> layer.initialize()
    >>> with autograd.record():
    ...     Y = layer(np.random.uniform(size=(8, 3)))
    >>> round(Y.mean().item(), 4)
    0.5
    """

    variant = "adjust"
    adjustment: Pair | Callable[[tuple[int, ...]], Pair]

    def __init__(
        self,
        num_features: int | tuple[int, ...] | None = None,
        num_dims: int | None = None,
        eps: float = EPS,
        momentum: float | None = MOMENTUM,
        dtype: Dtype = "float32",
        *,
        adjustment: Pair | Callable[[tuple[int, ...]], Pair],
        **options: Unpack[LayerOptions],
    ) -> None:
        super().__init__(num_features, num_dims, eps, momentum, dtype, **options)
        self.adjustment = adjustment

    def operands(self, mean: ndarray, var: ndarray, training: bool) -> Operands:
        mean, var, gamma, beta = super().operands(mean, var, training)
        if training:
            pair = self.adjustment
            pair = pair(tuple(mean.shape)) if callable(pair) else pair
            scale, shift = (like(mean, v) for v in pair)
            gamma, beta = scale_and_shift(gamma, beta, scale, shift)
        return mean, var, gamma, beta
