"""Batch norm that nothing changes: for fine-tuning, and for detection backbones."""

from typing import Unpack

from bn_from_scratch.backends.mxnet.layer import BatchNorm, Dtype, FrozenOptions
from bn_from_scratch.spec import EPS, MOMENTUM


class FrozenBatchNorm(BatchNorm):
    """The moving statistics always, in training too; gamma and beta are fixed."""

    variant = "freeze"

    def __init__(
        self,
        num_features: int | tuple[int, ...] | None = None,
        num_dims: int | None = None,
        eps: float = EPS,
        momentum: float | None = MOMENTUM,
        dtype: Dtype = "float32",
        **options: Unpack[FrozenOptions],
    ) -> None:
        sizes = num_features, num_dims
        super().__init__(*sizes, eps, momentum, dtype, **options, frozen="all")
