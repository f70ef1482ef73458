"""Answers in PyTorch: functions of tensors, and a torch.nn.Module."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from bn_from_scratch.checker.adapters import StudentLayer, exact, first, gradients_of
from bn_from_scratch.checker.cases import Case
from bn_from_scratch.checker.layer_script import in_order


def call(
    function: Callable[..., Any], case: Case
) -> tuple[Any, dict[str, Any], list[Any]]:
    """Outputs of one call, gradients by name, and the arguments after it."""
    arguments = {name: _tensor(a) for name, a in case.arguments.items()}
    wanted = {name: arguments[name].requires_grad_() for name in gradients_of(case)}
    with torch.set_grad_enabled(bool(wanted)):
        outputs = function(*arguments.values(), **case.options)
    found = {}
    if wanted:
        found = _gradients(first(outputs), wanted, case.cotangent)
    return outputs, found, list(arguments.values())


def array(value: Any) -> np.ndarray:
    """NumPy array of an output."""
    if value is None:
        raise NotImplementedError
    return torch.as_tensor(value).detach().cpu().numpy()


def _tensor(value):
    return torch.tensor(exact(value))


def _gradients(Y, wanted, dY):
    dY = _tensor(dY)
    if Y.requires_grad:
        found = torch.autograd.grad(Y, list(wanted.values()), dY, allow_unused=True)
    else:
        found = [None] * len(wanted)
    pairs = zip(wanted.items(), found, strict=True)
    return {f"d{k}": torch.zeros_like(v) if g is None else g for (k, v), g in pairs}


def LeNet(make: Callable[[], Any], case: Case) -> tuple[int, Any]:
    """Number of parameters, and shape of what two images give."""
    model = make().eval()
    Y = model(torch.zeros(2, 1, 28, 28))
    return sum(p.numel() for p in model.parameters()), Y.shape


class Layer(StudentLayer):
    """A student's layer, as `layer_script` asks for it.

    >>> layer = Layer(lambda: torch.nn.BatchNorm1d(2), np.zeros((4, 2)))
    >>> layer.predict(np.ones((1, 2))).round(2).tolist()
    [[1.0, 1.0]]
    """

    def __init__(self, make: Callable[[], Any], X: np.ndarray) -> None:
        self.make = make
        self.layer: Any = make()

    def _call(self, X, training, recorded):
        self.layer.train(training)
        with torch.set_grad_enabled(recorded):
            return array(self.layer(_tensor(X).requires_grad_(recorded)))

    def train(self, X: np.ndarray, recorded: bool = True) -> np.ndarray:
        return self._call(X, True, recorded)

    def predict(self, X: np.ndarray, recorded: bool = False) -> np.ndarray:
        return self._call(X, False, recorded)

    def reload(self, X: np.ndarray) -> np.ndarray:
        kept, self.layer = self.layer, self.make()
        self.layer.load_state_dict(kept.state_dict())
        Y = self.predict(X)
        self.layer = kept
        return Y

    def gradients(self, X: np.ndarray, dY: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        self.layer.train()
        parameters = dict(self.layer.named_parameters())
        wanted = {"X": _tensor(X).requires_grad_()} | parameters
        dX, *parameters = _gradients(self.layer(wanted["X"]), wanted, dY).values()
        return array(dX), in_order([array(g) for g in parameters])
