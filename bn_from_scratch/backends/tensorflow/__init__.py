"""Batch norm in Keras on TensorFlow: `from bn_from_scratch import tensorflow as bn`."""

from bn_from_scratch.backends.tensorflow.quiet import import_tensorflow

import_tensorflow()  # before any module that names it

from bn_from_scratch.backends.tensorflow.batch_norm import BatchNorm, batch_norm
from bn_from_scratch.backends.tensorflow.builtin import (
    builtin,
    builtin_setting,
    builtin_translation,
)
from bn_from_scratch.backends.tensorflow.lenet import BNLeNet, LeNet
from bn_from_scratch.backends.tensorflow.probe import probe
from bn_from_scratch.backends.tensorflow.trainer import Trainer

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
