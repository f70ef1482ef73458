"""Batch normalization in MXNet and Gluon: `from bn_from_scratch import mxnet as bn`."""

from bn_from_scratch.backends.mxnet.numpy2 import import_mxnet

import_mxnet().npx.set_np()  # Gluon layers take and give mx.np arrays

from bn_from_scratch.backends.mxnet.batch_norm import BatchNorm, batch_norm
from bn_from_scratch.backends.mxnet.builtin import (
    builtin,
    builtin_setting,
    builtin_translation,
)
from bn_from_scratch.backends.mxnet.lenet import BNLeNet, LeNet
from bn_from_scratch.backends.mxnet.probe import probe
from bn_from_scratch.backends.mxnet.trainer import Trainer

__all__ = [
    "BNLeNet",
    "BatchNorm",
    "LeNet",
    "Trainer",
    "batch_norm",
    "builtin",
    "builtin_setting",
    "builtin_translation",
    "probe",
]
