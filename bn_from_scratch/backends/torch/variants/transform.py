"""Batch norm whose operands are transformed: fake quantization, noise, logging."""

from collections.abc import Callable, Iterable
from typing import Unpack

import torch
from torch import Tensor

from bn_from_scratch.backends.torch.layer import (
    BatchNorm,
    Dtype,
    LayerOptions,
    Operands,
)
from bn_from_scratch.spec import EPS, MOMENTUM, TINY

Four = tuple[Tensor, Tensor, Tensor, Tensor]  # gamma, beta, mean, var
Transform = Callable[[Tensor, Tensor, Tensor, Tensor], Iterable[Tensor]]


class TransformedBatchNorm(BatchNorm):
    """`transform(gamma, beta, mean, var)` returns the four that are used instead.

    The moving averages follow the statistics as they were.  `transformed` switches it
    on and off at any time.  With `straight_through` the gradient passes as if it
    changed nothing: rounding has none of its own.

    >>> layer = bn.TransformedBatchNorm(num_features=3, transform=bn.fake_quantize)
    >>> layer(torch.rand(8, 3)).shape
    torch.Size([8, 3])
    """

    variant = "transform"
    transform: Transform
    straight_through: bool
    transformed: bool

    def __init__(
        self,
        num_features: int | tuple[int, ...] | None = None,
        num_dims: int | None = None,
        eps: float = EPS,
        momentum: float | None = MOMENTUM,
        dtype: Dtype = None,
        *,
        transform: Transform,
        straight_through: bool = False,
        transformed: bool = True,
        **options: Unpack[LayerOptions],
    ) -> None:
        super().__init__(num_features, num_dims, eps, momentum, dtype, **options)
        self.transform, self.straight_through = transform, straight_through
        self.transformed = transformed

    def operands(self, mean: Tensor, var: Tensor, training: bool) -> Operands:
        mean, var, gamma, beta = super().operands(mean, var, training)
        if self.transformed:
            given = gamma, beta, mean, var
            made = self.transform(*given)
            if self.straight_through:
                pairs = zip(given, made, strict=True)
                made = (v + (new - v).detach() for v, new in pairs)
            gamma, beta, mean, var = made
        return mean, var, gamma, beta


def fake_quantize(
    gamma: Tensor, beta: Tensor, mean: Tensor, var: Tensor, bits: int = 8
) -> Four:
    """A transform: all four in `bits` bits, as integer arithmetic will have them."""
    gamma, beta, mean, var = (quantize(v, bits) for v in (gamma, beta, mean, var))
    return gamma, beta, mean, var


def quantize(v: Tensor, bits: int) -> Tensor:
    """v on a grid of 2^bits - 1 values around 0, its largest on the edge."""
    step = torch.max(torch.abs(v)).clamp(min=TINY) / (2 ** (bits - 1) - 1)  # (23)
    return step * torch.round(v / step)  # (24)
