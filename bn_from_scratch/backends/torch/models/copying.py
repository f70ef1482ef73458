"""Copy a PyTorch model, with some layers exchanged; run what was copied."""

import copy
import itertools
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedBuffer, is_lazy

from bn_from_scratch import checks

MODES = "prediction", "training"
Memo = dict[int, Any]  # {id(object): what stands for it in the copy}


def new_memo(model: nn.Module) -> Memo:
    """The memo for `copy.deepcopy`.

    Two kinds of tensors cannot be copied: buffers that have no sizes yet, and what a
    hook computes from parameters before each call (pruning, spectral norm).
    """
    lazy = (v for v in model.buffers() if is_lazy(v))
    unset: Any = UninitializedBuffer  # PyTorch's stub knows no device and no dtype
    memo: Memo = {id(v): unset(device=v.device, dtype=v.dtype) for v in lazy}
    held = (v for module in model.modules() for v in vars(module).values())
    computed = (v for v in held if isinstance(v, torch.Tensor) and not v.is_leaf)
    return memo | {id(v): v.detach().clone() for v in computed}


def copied(model: nn.Module, memo: Memo | None = None) -> nn.Module:
    """A deep copy, in which the memo's objects stand."""
    return copy.deepcopy(model, new_memo(model) if memo is None else memo)


def outputs(model: nn.Module, X: Any, modes: Iterable[str]) -> dict[str, Any]:
    """{mode: arrays}: what a model answers.  Training moves only a copy."""
    return {mode: run(exact(model), X, mode) for mode in modes}


def exact(model: nn.Module) -> nn.Module:
    """A copy in float64: there, the same sums in another order show no difference."""
    return copied(model).double()


def run(model: nn.Module, X: Any, mode: str = "prediction") -> Any:
    """What this very model answers; a random layer draws the same at every run."""
    checks.check_choice("mode", mode, MODES)
    model.train(mode == "training")
    with torch.random.fork_rng(), torch.no_grad():
        return arrays(model(as_input(X, model)))


def as_input(X: Any, model: nn.Module) -> Tensor:
    """X where the model is, and in its dtype unless it counts something."""
    X = torch.as_tensor(X)
    for v in itertools.chain(model.parameters(), model.buffers()):
        if v.is_floating_point():
            return X.to(v.device, v.dtype if X.is_floating_point() else X.dtype)
    return X


def arrays(output: Any) -> Any:
    """A tensor as NumPy; several, in a dict, tuple or list, as a dict of such."""
    if isinstance(output, (tuple, list)):
        output = dict(enumerate(output))
    if isinstance(output, dict):
        return {name: arrays(v) for name, v in output.items()}
    return output.double().cpu().numpy()
