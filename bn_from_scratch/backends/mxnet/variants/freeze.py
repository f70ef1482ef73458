"""Batch norm that nothing changes: for fine-tuning, and for detection backbones."""

from typing import Unpack

from bn_from_scratch.backends.mxnet.layer import BatchNorm, Dtype, FrozenOptions
from bn_from_scratch.spec import EPS, MOMENTUM


class FrozenBatchNorm(BatchNorm):
    """The moving statistics always, in training too; gamma and beta are fixed.

    >>> from mxnet import autograd, np
    >>> layer = bn.FrozenBatchNorm(num_features=3)
    >>> layer.initialize()
    >>> with autograd.record():
    ...     Y = layer(np.random.uniform(size=(8, 3)))
    >>> layer.moving_mean.data().tolist()
    [0.0, 0.0, 0.0]
    """

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
