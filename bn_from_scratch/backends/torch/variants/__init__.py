"""Variants of batch norm in PyTorch: one file each, one step of the layer changed."""

from bn_from_scratch import combinations
from bn_from_scratch.backends.torch.layer import BatchNorm
from bn_from_scratch.backends.torch.variants.accumulate import AccumBatchNorm
from bn_from_scratch.backends.torch.variants.adjust import AdjustedBatchNorm
from bn_from_scratch.backends.torch.variants.freeze import FrozenBatchNorm
from bn_from_scratch.backends.torch.variants.fused import FusedBatchNorm
from bn_from_scratch.backends.torch.variants.ghost import GhostBatchNorm
from bn_from_scratch.backends.torch.variants.layer_norm import LayerNorm
from bn_from_scratch.backends.torch.variants.lite import (
    MeanOnlyBatchNorm,
    VarOnlyBatchNorm,
)
from bn_from_scratch.backends.torch.variants.renorm import BatchRenorm
from bn_from_scratch.backends.torch.variants.sync import SyncBatchNorm
from bn_from_scratch.backends.torch.variants.transform import (
    TransformedBatchNorm,
    fake_quantize,
)

VARIANTS = (
    GhostBatchNorm,
    SyncBatchNorm,
    AccumBatchNorm,
    TransformedBatchNorm,
    BatchRenorm,
    AdjustedBatchNorm,
    MeanOnlyBatchNorm,
    VarOnlyBatchNorm,
    FusedBatchNorm,
    FrozenBatchNorm,
)

__all__ = [
    "AccumBatchNorm",
    "AdjustedBatchNorm",
    "BatchRenorm",
    "FrozenBatchNorm",
    "FusedBatchNorm",
    "GhostBatchNorm",
    "LayerNorm",
    "MeanOnlyBatchNorm",
    "SyncBatchNorm",
    "TransformedBatchNorm",
    "VarOnlyBatchNorm",
    "combine",
    "fake_quantize",
]


def combine(*names: str) -> type[BatchNorm]:
    """The class that is several variants: combine("ghost", "renorm")(6, ghost_size=8).

    Raises ValueError for a pair that does not combine, with the reason.
    """
    return combinations.combine(VARIANTS, names)
