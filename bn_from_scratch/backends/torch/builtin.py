"""PyTorch's own batch norm, as a setting of the spec."""

import torch
from torch import nn

from bn_from_scratch.spec import EPS, MOMENTUM

NAMES = {  # ours -> theirs
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_var": "running_var",
}


def builtin(num_features, num_dims, eps=EPS, momentum=MOMENTUM, dtype=None, **kwargs):
    """The framework's layer with the spec's eps and momentum.  X [N, C, *] -> same."""
    dtype = getattr(torch, dtype) if isinstance(dtype, str) else dtype
    layers = {
        2: nn.BatchNorm1d,
        3: nn.BatchNorm1d,
        4: nn.BatchNorm2d,
        5: nn.BatchNorm3d,
    }
    settings = {"eps": eps, "momentum": momentum, "dtype": dtype}
    return layers[num_dims](num_features, **settings, **kwargs)


def builtin_setting(momentum=MOMENTUM):
    """Arguments at which `spec.batch_norm` is this layer, in the last digit."""
    return {"momentum": momentum, "correction": 1}


def builtin_translation(eps=EPS, momentum=MOMENTUM):
    """What had to be translated: our word -> theirs."""
    return {
        "eps": f"eps={eps:g}",
        "momentum": f"momentum={momentum:g}: the weight of the new batch, as ours",
        "moving_var": "running_var is unbiased: n/(n-1) times ours",
    }


def exchange_names(model):
    """Every parameter and statistic of a model: {"bn1.gamma": tensor, ...}."""
    named = {}
    for path, module in model.named_modules():
        native = isinstance(module, nn.modules.batchnorm._BatchNorm)
        names = NAMES if native else {}
        theirs = {v: k for k, v in names.items()}
        own = dict(module.named_parameters(recurse=False))
        own |= dict(module.named_buffers(recurse=False))
        own.pop("num_batches_tracked", None)
        named |= {f"{path}.{theirs.get(k, k)}": v for k, v in own.items()}
    return named
