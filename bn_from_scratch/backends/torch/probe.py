"""Any norm layer of PyTorch: NumPy in, NumPy out."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bn_from_scratch.backends.torch.builtin import NAMES


def probe(
    layer: nn.Module,
    X: np.ndarray,
    dY: np.ndarray,
    *,
    training: bool,
    steps: int = 1,
    state: dict[str, np.ndarray] | None = None,
    native: bool = False,
    **options: Any,
) -> dict[str, np.ndarray]:
    """Feed X [N, C, *] and the cotangent dY forward and backward, `steps` times over.

    Returns NumPy arrays: Y, dX [N, C, *], dgamma, dbeta [C] of the last pass and the
    moving_mean, moving_var [C] it leaves, without those that the layer does not have.
    `state` (gamma, beta, moving_mean, moving_var, ...) is written into the layer first.
    X that is `native` has the layer's own layout already.  `options` (mask, update) are
    given to each call.
    """
    device = next(iter([*layer.parameters(), *layer.buffers()])).device
    given, cotangent = (torch.as_tensor(v, device=device) for v in (X, dY))
    if "mask" in options:
        options["mask"] = torch.as_tensor(options["mask"], device=device)
    values = _state_of(layer)
    with torch.no_grad():
        for name, value in (state or {}).items():
            values[name].copy_(torch.as_tensor(value))
    was_training = layer.training
    layer.train(training)
    for _ in range(steps):
        leaf = given.clone().requires_grad_()
        Y = layer(leaf, **options)
        wanted = {"X": leaf, **{k: values[k] for k in ("gamma", "beta") if k in values}}
        wanted = {k: v for k, v in wanted.items() if v.requires_grad}
        gradients = torch.autograd.grad(Y, list(wanted.values()), cotangent)
    layer.train(was_training)
    result = {"Y": Y} | {f"d{k}": v for k, v in zip(wanted, gradients, strict=True)}
    result |= {k: v for k, v in values.items() if k not in ("gamma", "beta")}
    return {name: v.detach().cpu().numpy().copy() for name, v in result.items()}


def _state_of(layer: nn.Module) -> dict[str, Tensor]:
    """The layer's parameters and statistics under our names."""
    theirs = {v: k for k, v in NAMES.items()}
    named: list[tuple[str, Tensor]] = [
        *layer.named_parameters(recurse=False),
        *layer.named_buffers(recurse=False),
    ]
    return {theirs.get(name, name): v for name, v in named}
