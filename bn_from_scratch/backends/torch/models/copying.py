"""Copy a PyTorch model, with some layers exchanged; run what was copied."""

import copy
import inspect
import itertools
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.parameter import UninitializedBuffer, is_lazy

from bn_from_scratch import checks
from bn_from_scratch.surgery import proof, trees

MODES = "prediction", "training"
ERRORS = RuntimeError, TypeError, NotImplementedError  # of dtypes that do not fit
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


def outputs(
    model: nn.Module, X: Any, modes: Iterable[str], in_float64: bool = True
) -> dict[str, Any]:
    """{mode: {place: array}}: what a model answers.  Training moves only a copy."""
    copy = exact if in_float64 else copied
    with proof.in_float64(in_float64, ERRORS):
        return {mode: run(copy(model), X, mode) for mode in modes}


def dtype_of(model: nn.Module) -> str:
    """The least exact dtype of a model's state: "float32"."""
    state = itertools.chain(model.parameters(), model.buffers())
    dtypes = {v.dtype for v in state if v.is_floating_point()}
    least = max(dtypes, key=lambda v: torch.finfo(v).eps, default=torch.float32)
    return str(least).removeprefix("torch.")


def exact(model: nn.Module) -> nn.Module:
    """A copy in float64: there, the same sums in another order show no difference."""
    return copied(model).double()


def run(model: nn.Module, X: Any, mode: str = "prediction") -> dict[str, np.ndarray]:
    """What this very model answers; a random layer draws the same at every run."""
    checks.check_choice("mode", mode, MODES)
    model.train(mode == "training")
    with torch.random.fork_rng(), torch.no_grad():
        return trees.flat(called(model, X), as_array)


def called(model: nn.Module, X: Any) -> Any:
    """The answer to X: an input, a tuple of several, or a dict of named ones."""
    taken = list(inspect.signature(model.forward).parameters.values())
    inputs = trees.arguments(X, taken)
    args, kwargs = trees.mapped(lambda v: as_input(v, model), inputs)
    return model(*args, **kwargs)


def as_input(X: Any, model: nn.Module) -> Any:
    """An array where the model is, and in its dtype unless it counts something."""
    if not isinstance(X, (torch.Tensor, np.ndarray, np.generic, list, tuple)):
        return X
    X = torch.as_tensor(X)
    for v in itertools.chain(model.parameters(), model.buffers()):
        if v.is_floating_point():
            return X.to(v.device, v.dtype if X.is_floating_point() else X.dtype)
    return X


def as_array(v: Any) -> np.ndarray | None:
    """A tensor or number as NumPy, in float64 or complex128; None for what is none."""
    if isinstance(v, torch.Tensor):
        wide = torch.complex128 if v.is_complex() else torch.float64
        return v.detach().to_dense().to("cpu", wide).numpy()
    is_number = isinstance(v, (bool, int, float, complex, np.ndarray, np.generic))
    return np.asarray(v) if is_number else None
