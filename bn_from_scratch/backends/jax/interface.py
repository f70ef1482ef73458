"""Batch normalization in JAX and Flax: `from bn_from_scratch import jax as bn`."""

from bn_from_scratch.backends.jax.batch_norm import batch_norm
from bn_from_scratch.backends.jax.builtin import (
    builtin,
    builtin_setting,
    builtin_translation,
)
from bn_from_scratch.backends.jax.layer import BatchNorm
from bn_from_scratch.backends.jax.lenet import BNLeNet, LeNet
from bn_from_scratch.backends.jax.models.folding import fold_batch_norm
from bn_from_scratch.backends.jax.models.reestimation import reestimate
from bn_from_scratch.backends.jax.models.surgery import batch_norms, replace_batch_norm
from bn_from_scratch.backends.jax.probe import probe
from bn_from_scratch.backends.jax.timing import prepare
from bn_from_scratch.backends.jax.trainer import Trainer
from bn_from_scratch.backends.jax.variants import (
    AccumBatchNorm,
    AdjustedBatchNorm,
    BatchRenorm,
    FrozenBatchNorm,
    FusedBatchNorm,
    GhostBatchNorm,
    LayerNorm,
    MeanOnlyBatchNorm,
    SyncBatchNorm,
    TransformedBatchNorm,
    VarOnlyBatchNorm,
    combine,
    fake_quantize,
)

__all__ = [
    "AccumBatchNorm",
    "AdjustedBatchNorm",
    "BNLeNet",
    "BatchNorm",
    "BatchRenorm",
    "FrozenBatchNorm",
    "FusedBatchNorm",
    "GhostBatchNorm",
    "LayerNorm",
    "LeNet",
    "MeanOnlyBatchNorm",
    "SyncBatchNorm",
    "Trainer",
    "TransformedBatchNorm",
    "VarOnlyBatchNorm",
    "batch_norm",
    "batch_norms",
    "builtin",
    "builtin_setting",
    "builtin_translation",
    "combine",
    "fake_quantize",
    "fold_batch_norm",
    "prepare",
    "probe",
    "reestimate",
    "replace_batch_norm",
]
