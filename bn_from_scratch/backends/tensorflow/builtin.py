"""Keras's own batch norm, as a setting of the spec."""

import numbers

import keras

from bn_from_scratch import checks
from bn_from_scratch.backends.tensorflow.batch_norm import CHANNEL_AXIS
from bn_from_scratch.spec import EPS, MOMENTUM

NAMES = {  # ours -> theirs
    "gamma": "gamma",
    "beta": "beta",
    "moving_mean": "moving_mean",
    "moving_var": "moving_variance",
}


def builtin(
    num_features,
    num_dims,
    eps=EPS,
    momentum=MOMENTUM,
    dtype=None,
    *,
    axis=CHANNEL_AXIS,
    center=True,
    scale=True,
    correction=0,
    statistics="moving",
    frozen=None,
    **kwargs,
):
    """The framework's layer with the spec's eps and momentum.  X [N, *, C] -> same.

    Keras infers both sizes when the layer is built.  It stores the biased variance,
    whatever `correction` says; any other setting that it lacks raises ValueError.
    """
    axes = checks.tuple_of(axis)
    if len(axes) > 1:
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
    return keras.layers.BatchNormalization(
        axis=axes[0],
        epsilon=eps,
        momentum=1 - momentum,
        center=center,
        scale=scale,
        dtype=dtype,
        **dict(_translated(*item) for item in kwargs.items()),
    )


def _translated(name, value):
    """One of our other arguments as Keras takes it."""
    if name.endswith("_initializer") and isinstance(value, numbers.Number):
        value = keras.initializers.Constant(value)
    return name.replace("moving_var_", "moving_variance_"), value


def builtin_setting(momentum=MOMENTUM):
    """Arguments at which `spec.batch_norm` is this layer, in the last digit."""
    return {"momentum": momentum}


def builtin_translation(eps=EPS, momentum=MOMENTUM):
    """What had to be translated: our word -> theirs."""
    return {
        "eps": f"epsilon={eps:g}: the default is 0.001",
        "momentum": f"momentum={1 - momentum:g}: the weight of the old value",
        "training": "training=True must be passed, or Keras predicts",
    }


def exchange_names(model):
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
