"""Batch normalization in PyTorch: `from bn_from_scratch import torch as bn`."""

from bn_from_scratch.backends.torch.batch_norm import BatchNorm, batch_norm
from bn_from_scratch.backends.torch.builtin import (
    builtin,
    builtin_setting,
    builtin_translation,
)
from bn_from_scratch.backends.torch.lenet import BNLeNet, LeNet
from bn_from_scratch.backends.torch.probe import probe
from bn_from_scratch.backends.torch.trainer import Trainer

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
