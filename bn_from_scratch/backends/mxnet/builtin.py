"""Gluon's own batch norm, as a setting of the spec."""

from typing import Any

import numpy
from mxnet.gluon import Parameter, nn

from bn_from_scratch import checks
from bn_from_scratch.backends.mxnet.batch_norm import CHANNEL_AXIS
from bn_from_scratch.backends.mxnet.blocks import layers_of
from bn_from_scratch.backends.mxnet.layer import Dtype
from bn_from_scratch.spec import EPS, MOMENTUM, Axis

NAMES = {  # ours -> theirs
    "gamma": "gamma",
    "beta": "beta",
    "moving_mean": "running_mean",
    "moving_var": "running_var",
}


def builtin(
    num_features: int | None,
    num_dims: int | None,
    eps: float = EPS,
    momentum: float | None = MOMENTUM,
    dtype: Dtype = "float32",
    *,
    axis: Axis = CHANNEL_AXIS,
    center: bool = True,
    scale: bool = True,
    correction: int = 0,
    statistics: str = "moving",
    frozen: str | None = None,
    **kwargs: Any,
) -> nn.BatchNorm:
    """The framework's layer with the spec's eps and momentum.  X [N, C, *] -> same.

    It stores the biased variance, whatever `correction` says; any other setting that it
    lacks raises ValueError.
    """
    axes = checks.tuple_of(axis)
    if len(axes) != 1:
        raise ValueError(f"Gluon's layer has one channel axis; got axis={axis}")
    if momentum is None:
        raise ValueError("Gluon's layer needs a momentum; got None")
    if statistics != "moving":
        raise ValueError(
            "Gluon's layer predicts by moving statistics; "
            f"got statistics={statistics!r}"
        )
    settings = {
        "axis": axes[0],
        "epsilon": eps,
        "momentum": 1 - momentum,
        "center": center,
        "scale": scale,
        "use_global_stats": frozen == "all",
        "in_channels": checks.tuple_of(num_features)[0] or 0,
    }
    layer = nn.BatchNorm(**(settings | kwargs))
    layer.cast(dtype)
    if frozen is not None:
        for p in (layer.gamma, layer.beta):
            p.grad_req = "null"
    return layer


def builtin_setting(momentum: float = MOMENTUM) -> dict[str, Any]:
    """Arguments at which `spec.batch_norm` is this layer, in the last digit.

    MXNet reads its momentum as float32 whatever the dtype: 0.9 is 0.899999976.
    """
    return {"momentum": 1 - float(numpy.float32(1 - momentum))}


def builtin_translation(eps: float = EPS, momentum: float = MOMENTUM) -> dict[str, str]:
    """What had to be translated: our word -> theirs."""
    theirs = numpy.float32(1 - momentum)
    return {
        "eps": f"epsilon={eps:g}",
        "momentum": f"momentum={1 - momentum:g}: the weight of the old value, "
        f"read as float32 ({theirs:.9g})",
        "moving averages": "they move in backward: no backward, no update",
    }


def exchange_names(model: nn.Block) -> dict[str, Parameter]:
    """Every parameter and statistic of a model: {"bn1.gamma": Parameter, ...}."""
    named: dict[str, Parameter] = {}
    for path, block in layers_of(model).items():
        names = NAMES if isinstance(block, nn.BatchNorm) else {}
        theirs = {v: k for k, v in names.items()}
        path = f"{path}." if path else ""
        named |= {f"{path}{theirs.get(k, k)}": v for k, v in block._reg_params.items()}
    return named
