"""Batch normalization in JAX and Flax: `from bn_from_scratch import jax as bn`."""

import os

# JAX takes three quarters of a GPU's memory at once unless told to share it.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

from bn_from_scratch.backends.jax.batch_norm import BatchNorm, batch_norm
from bn_from_scratch.backends.jax.builtin import (
    builtin,
    builtin_setting,
    builtin_translation,
)
from bn_from_scratch.backends.jax.lenet import BNLeNet, LeNet
from bn_from_scratch.backends.jax.probe import probe
from bn_from_scratch.backends.jax.trainer import Trainer

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
