"""Keras's own batch norm, as a setting of the spec."""

import keras

from bn_from_scratch.spec import EPS, MOMENTUM

NAMES = {  # ours -> theirs
    "gamma": "gamma",
    "beta": "beta",
    "moving_mean": "moving_mean",
    "moving_var": "moving_variance",
}


def builtin(num_features, num_dims, eps=EPS, momentum=MOMENTUM, dtype=None, **kwargs):
    """The framework's layer with the spec's eps and momentum.  X [N, *, C] -> same.

    Keras infers both sizes when the layer is built.
    """
    return keras.layers.BatchNormalization(
        axis=-1, epsilon=eps, momentum=1 - momentum, dtype=dtype, **kwargs
    )


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
    """Every parameter and statistic of a model: {"bn1.gamma": variable, ...}."""
    named = {}
    for layer in model.layers:
        native = isinstance(layer, keras.layers.BatchNormalization)
        names = NAMES if native else {"weight": "kernel"}
        theirs = {v: k for k, v in names.items()}
        own = {theirs.get(v.name, v.name): v for v in layer.variables}
        named |= {f"{layer.name}.{name}": v for name, v in own.items()}
    return named
