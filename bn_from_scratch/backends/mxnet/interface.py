"""Batch normalization in MXNet and Gluon: `from bn_from_scratch import mxnet as bn`.

The import puts MXNet in NumPy mode (`npx.set_np()`), for the whole process.  Layers
here take arrays of mx.np; blocks that know `mx.nd` alone fail from then on, such as
MobileNetV2, DenseNet and SqueezeNet of Gluon's model zoo.
"""

from bn_from_scratch.backends.mxnet.batch_norm import batch_norm
from bn_from_scratch.backends.mxnet.builtin import (
    builtin,
    builtin_setting,
    builtin_translation,
)
from bn_from_scratch.backends.mxnet.layer import BatchNorm
from bn_from_scratch.backends.mxnet.lenet import BNLeNet, LeNet
from bn_from_scratch.backends.mxnet.models.folding import fold_batch_norm
from bn_from_scratch.backends.mxnet.models.reestimation import reestimate
from bn_from_scratch.backends.mxnet.models.surgery import (
    batch_norms,
    replace_batch_norm,
)
from bn_from_scratch.backends.mxnet.probe import probe
from bn_from_scratch.backends.mxnet.timing import prepare
from bn_from_scratch.backends.mxnet.trainer import Trainer
from bn_from_scratch.backends.mxnet.variants import (
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
