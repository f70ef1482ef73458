"""Keras's own batch norm, as a setting of the spec."""

import numbers
from typing import Any

import keras

from bn_from_scratch import checks
from bn_from_scratch.backends.tensorflow.batch_norm import CHANNEL_AXIS
from bn_from_scratch.spec import EPS, MOMENTUM, Axis

NAMES = {  # ours -> theirs
    "gamma": "gamma",
    "beta": "beta",
    "moving_mean": "moving_mean",
    "moving_var": "moving_variance",
}


def builtin(
    num_features: int | tuple[int, ...] | None,
    num_dims: int | None,
    eps: float = EPS,
    momentum: float | None = MOMENTUM,
    dtype: str | None = None,
    *,
    axis: Axis = CHANNEL_AXIS,
    center: bool = True,
    scale: bool = True,
    correction: int = 0,
    statistics: str = "moving",
    frozen: str | None = None,
    **kwargs: Any,
) -> keras.layers.BatchNormalization:
    """The framework's layer with the spec's eps and momentum.  X [N, *, C] -> same.

    Keras infers both sizes when the layer is built.  It stores the biased variance,
    whatever `correction` says; any other setting that it lacks raises ValueError.
    """
    axes = checks.tuple_of(axis)
    if len(axes) != 1:
        raise ValueError(f"Keras's layer has one channel axis; got axis={axis}")
    if momentum is None:
        raise ValueError("Keras's layer needs a momentum; got None")
    if statistics != "moving":
        raise ValueError(
            "Keras's layer predicts by moving statistics; "
            f"got statistics={statistics!r}"
        )
    if frozen == "affine":
        raise ValueError(
            "Keras's layer is frozen whole or not at all; got frozen='affine'"
        )
    if frozen == "all":  # its word for prediction in every mode
        kwargs["trainable"] = False
    others: Any = dict(_translated(*item) for item in kwargs.items())
    return keras.layers.BatchNormalization(
        axis=axes[0],
        epsilon=eps,
        momentum=1 - momentum,
        center=center,
        scale=scale,
        dtype=dtype,
        **others,
    )


def _translated(name: str, value: Any) -> tuple[str, Any]:
    """One of our other arguments as Keras takes it."""
    if name.endswith("_initializer") and isinstance(value, numbers.Number):
        number: Any = value
        value = keras.initializers.Constant(number)
    return name.replace("moving_var_", "moving_variance_"), value


def builtin_setting(momentum: float = MOMENTUM) -> dict[str, float]:
    """Arguments at which `spec.batch_norm` is this layer, in the last digit."""
    return {"momentum": momentum}


def builtin_translation(eps: float = EPS, momentum: float = MOMENTUM) -> dict[str, str]:
    """What had to be translated: our word -> theirs."""
    return {
        "eps": f"epsilon={eps:g}: the default is 0.001",
        "momentum": f"momentum={1 - momentum:g}: the weight of the old value",
        "training": "training=True must be passed, or Keras predicts",
    }


def exchange_names(model: keras.Model) -> dict[str, keras.Variable]:
    """Every parameter and statistic of a model: {"bn1.gamma": variable, ...}.

    The layers of a nested model have its name before theirs: "block1.bn1.gamma".
    """
    named = {}
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            own = exchange_names(layer)
        else:
            native = isinstance(layer, keras.layers.BatchNormalization)
            names = NAMES if native else {"weight": "kernel"}
            theirs = {v: k for k, v in names.items()}
            own = {theirs.get(v.name, v.name): v for v in layer.variables}
        named |= {f"{layer.name}.{name}": v for name, v in own.items()}
    return named
