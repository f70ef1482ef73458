"""Batch norm that nothing changes: for fine-tuning, and for detection backbones."""

from typing import Unpack

from bn_from_scratch.backends.torch.layer import BatchNorm, Dtype, FrozenOptions
from bn_from_scratch.spec import EPS, MOMENTUM


class FrozenBatchNorm(BatchNorm):
    """The moving statistics always, in training too; gamma and beta are fixed.

    >>> import torch
    >>> layer = bn.FrozenBatchNorm(num_features=3)
    >>> Y = layer(torch.rand(8, 3))
    >>> layer.moving_mean.tolist()
    [0.0, 0.0, 0.0]
    """

    variant = "freeze"

    def __init__(
        self,
        num_features: int | tuple[int, ...] | None = None,
        num_dims: int | None = None,
        eps: float = EPS,
        momentum: float | None = MOMENTUM,
        dtype: Dtype = None,
        **options: Unpack[FrozenOptions],
    ) -> None:
        sizes = num_features, num_dims
        super().__init__(*sizes, eps, momentum, dtype, **options, frozen="all")
