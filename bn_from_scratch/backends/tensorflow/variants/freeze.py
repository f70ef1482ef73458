"""Batch norm that nothing changes: for fine-tuning, and for detection backbones."""

from typing import Any, Unpack

from bn_from_scratch.backends.tensorflow.layer import BatchNorm
from bn_from_scratch.backends.tensorflow.options import Dtype, FrozenOptions
from bn_from_scratch.spec import EPS, MOMENTUM


class FrozenBatchNorm(BatchNorm):
    """The moving statistics always, in training too; gamma and beta are fixed.

    >>> import tensorflow as tf
    >>> layer = bn.FrozenBatchNorm(1)
    >>> layer(tf.constant([[1.0], [3.0]]), training=True).numpy().round(2)
    array([[1.],
           [3.]], dtype=float32)
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

    def arguments(self) -> dict[str, Any]:
        arguments = super().arguments()
        del arguments["frozen"]
        return arguments
