"""Gluon's own batch norm, as a setting of the spec."""

import numpy
from mxnet.gluon import nn

from bn_from_scratch.spec import EPS, MOMENTUM

NAMES = {  # ours -> theirs
    "gamma": "gamma",
    "beta": "beta",
    "moving_mean": "running_mean",
    "moving_var": "running_var",
}


def builtin(
    num_features, num_dims, eps=EPS, momentum=MOMENTUM, dtype="float32", **kwargs
):
    """The framework's layer with the spec's eps and momentum.  X [N, C, *] -> same."""
    layer = nn.BatchNorm(
        axis=1, epsilon=eps, momentum=1 - momentum, in_channels=num_features, **kwargs
    )
    layer.cast(dtype)
    return layer


def builtin_setting(momentum=MOMENTUM):
    """Arguments at which `spec.batch_norm` is this layer, in the last digit.

    MXNet reads its momentum as float32 whatever the dtype: 0.9 is 0.899999976.
    """
    return {"momentum": 1 - float(numpy.float32(1 - momentum))}


def builtin_translation(eps=EPS, momentum=MOMENTUM):
    """What had to be translated: our word -> theirs."""
    theirs = numpy.float32(1 - momentum)
    return {
        "eps": f"epsilon={eps:g}",
        "momentum": f"momentum={1 - momentum:g}: the weight of the old value, "
        f"read as float32 ({theirs:.9g})",
        "moving averages": "they move in backward: no backward, no update",
    }


def exchange_names(model):
    """Every parameter and statistic of a model: {"bn1.gamma": Parameter, ...}."""
    named = {}
    for path, block in model._children.items():
        names = NAMES if isinstance(block, nn.BatchNorm) else {}
        theirs = {v: k for k, v in names.items()}
        named |= {f"{path}.{theirs.get(k, k)}": v for k, v in block._reg_params.items()}
    return named
