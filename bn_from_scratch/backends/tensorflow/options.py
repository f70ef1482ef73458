"""What the layers of Keras take: the types of their arguments."""

from collections.abc import Callable
from typing import Any, TypedDict

import keras
import tensorflow as tf

from bn_from_scratch.spec import Axis

Dtype = str | tf.DType | keras.DTypePolicy | None
Initializer = float | str | Callable[..., Any]  # a number, or what Keras takes
Regularizer = str | Callable[..., Any] | None
Constraint = str | Callable[..., Any] | None


class FrozenOptions(TypedDict, total=False):
    """What a variant hands on to the layer by name; `frozen` is its own affair."""

    axis: Axis
    center: bool
    scale: bool
    correction: int
    statistics: str
    gamma_initializer: Initializer
    beta_initializer: Initializer
    moving_mean_initializer: Initializer
    moving_var_initializer: Initializer
    gamma_regularizer: Regularizer
    beta_regularizer: Regularizer
    gamma_constraint: Constraint
    beta_constraint: Constraint
    activity_regularizer: Regularizer
    trainable: bool
    name: str | None


class LayerOptions(FrozenOptions, total=False):
    """What a variant hands on to the layer by name."""

    frozen: str | None


# What the constructor is given, but for Keras's own; each is an attribute, too.
ARGUMENTS = (
    "num_features",
    "num_dims",
    "eps",
    "momentum",
    "axis",
    "center",
    "scale",
    "correction",
    "statistics",
    "frozen",
    "gamma_initializer",
    "beta_initializer",
    "moving_mean_initializer",
    "moving_var_initializer",
    "gamma_regularizer",
    "beta_regularizer",
    "gamma_constraint",
    "beta_constraint",
)
