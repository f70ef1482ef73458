"""Variants of batch norm in JAX: one file each, one step of the layer changed."""

from bn_from_scratch import combinations
from bn_from_scratch.backends.jax.layer import BatchNorm
from bn_from_scratch.backends.jax.variants.accumulate import AccumBatchNorm
from bn_from_scratch.backends.jax.variants.adjust import AdjustedBatchNorm
from bn_from_scratch.backends.jax.variants.freeze import FrozenBatchNorm
from bn_from_scratch.backends.jax.variants.fused import FusedBatchNorm
from bn_from_scratch.backends.jax.variants.ghost import GhostBatchNorm
from bn_from_scratch.backends.jax.variants.layer_norm import LayerNorm
from bn_from_scratch.backends.jax.variants.lite import (
    MeanOnlyBatchNorm,
    VarOnlyBatchNorm,
)
from bn_from_scratch.backends.jax.variants.renorm import BatchRenorm
from bn_from_scratch.backends.jax.variants.sync import SyncBatchNorm
from bn_from_scratch.backends.jax.variants.transform import (
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
