"""PyTorch's own batch norm, as a setting of the spec."""

from typing import Any

import torch
from torch import Tensor, nn

from bn_from_scratch import spec
from bn_from_scratch.backends.torch.batch_norm import CHANNEL_AXIS
from bn_from_scratch.backends.torch.layer import Dtype
from bn_from_scratch.spec import EPS, MOMENTUM, Axis

NAMES = {  # ours -> theirs
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_var": "running_var",
}
LAYERS: dict[int | None, tuple[type, type]] = {  # by the axes of X
    None: (nn.BatchNorm1d, nn.LazyBatchNorm1d),  # the only one for two numbers of axes
    2: (nn.BatchNorm1d, nn.LazyBatchNorm1d),
    3: (nn.BatchNorm1d, nn.LazyBatchNorm1d),
    4: (nn.BatchNorm2d, nn.LazyBatchNorm2d),
    5: (nn.BatchNorm3d, nn.LazyBatchNorm3d),
}


def builtin(
    num_features: int | None,
    num_dims: int | None,
    eps: float = EPS,
    momentum: float | None = MOMENTUM,
    dtype: Dtype = None,
    *,
    axis: Axis = CHANNEL_AXIS,
    center: bool = True,
    scale: bool = True,
    correction: int = 1,
    statistics: str = "moving",
    frozen: str | None = None,
    **kwargs: Any,
) -> nn.Module:
    """The framework's layer with the spec's eps and momentum.  X [N, C, *] -> same.

    Its stored variance is unbiased whatever the `correction`.  ValueError for what it
    cannot do: another axis, frozen="all".
    """
    _check(num_features, num_dims, axis, center, scale, frozen)
    settings = {
        "eps": eps,
        "momentum": momentum,
        "dtype": getattr(torch, dtype) if isinstance(dtype, str) else dtype,
        "affine": center or scale,
        "track_running_stats": statistics == "moving",
    }
    plain, lazy = LAYERS[num_dims]
    sizes, cls = ([], lazy) if num_features is None else ([num_features], plain)
    layer = cls(*sizes, **(settings | kwargs))
    if not center:
        layer.bias = None
    if not scale:
        layer.weight = None
    for v in layer.parameters():
        v.requires_grad = frozen is None
    return layer


def _check(
    num_features: int | None,
    num_dims: int | None,
    axis: Axis,
    center: bool,
    scale: bool,
    frozen: str | None,
) -> None:
    """Raise ValueError for what PyTorch's layer cannot do."""
    refuse = "PyTorch's layer"
    if num_dims not in LAYERS:
        raise ValueError(f"{refuse} takes X with 2 to 5 axes; got num_dims={num_dims}")
    if spec.kept_axes(num_dims or 5, axis) != (CHANNEL_AXIS,):
        raise ValueError(f"{refuse} has its channels on axis 1; got axis={axis}")
    if frozen == "all":
        raise ValueError(
            f"{refuse} predicts in .eval() alone, which .train() undoes; "
            "got frozen='all'"
        )
    if num_features is None and center != scale:
        raise ValueError(
            f"{refuse} without sizes has both gamma and beta, or neither; "
            f"got center={center}, scale={scale}"
        )


def builtin_setting(momentum: float = MOMENTUM) -> dict[str, Any]:
    """Arguments at which `spec.batch_norm` is this layer, in the last digit."""
    return {"momentum": momentum, "correction": 1}


def builtin_translation(eps: float = EPS, momentum: float = MOMENTUM) -> dict[str, str]:
    """What had to be translated: our word -> theirs."""
    return {
        "eps": f"eps={eps:g}",
        "momentum": f"momentum={momentum:g}: the weight of the new batch, as ours",
        "moving_var": "running_var is unbiased: n/(n-1) times ours",
    }


def exchange_names(model: nn.Module) -> dict[str, Tensor]:
    """Every parameter and statistic of a model: {"bn1.gamma": tensor, ...}."""
    named: dict[str, Tensor] = {}
    for path, module in model.named_modules():
        native = isinstance(module, nn.modules.batchnorm._BatchNorm)
        names = NAMES if native else {}
        theirs = {v: k for k, v in names.items()}
        own: dict[str, Tensor] = dict(module.named_parameters(recurse=False))
        own |= dict(module.named_buffers(recurse=False))
        own.pop("num_batches_tracked", None)
        path = f"{path}." if path else ""
        named |= {f"{path}{theirs.get(k, k)}": v for k, v in own.items()}
    return named
