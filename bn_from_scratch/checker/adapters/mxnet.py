"""Answers in MXNet: functions of mx.np arrays, and a Gluon block."""

import pathlib
import tempfile
from collections.abc import Callable
from typing import Any

import numpy
from mxnet import autograd, np
from mxnet.gluon import nn

from bn_from_scratch.checker.adapters import StudentLayer, exact, first, gradients_of
from bn_from_scratch.checker.cases import Case
from bn_from_scratch.checker.layer_script import in_order


def call(
    function: Callable[..., Any], case: Case
) -> tuple[Any, dict[str, Any], list[Any]]:
    """Outputs of one call, gradients by name, and the arguments after it."""
    arguments = {name: _tensor(a) for name, a in case.arguments.items()}
    wanted = {name: arguments[name] for name in gradients_of(case)}
    if not wanted:
        return (
            function(*arguments.values(), **case.options),
            {},
            list(arguments.values()),
        )
    for value in wanted.values():
        value.attach_grad()
    with autograd.record():
        outputs = function(*arguments.values(), **case.options)
    first(outputs).backward(_tensor(case.cotangent))
    found = {f"d{name}": value.grad for name, value in wanted.items()}
    return outputs, found, list(arguments.values())


def array(value: Any) -> numpy.ndarray:
    """NumPy array of an output."""
    if value is None:
        raise NotImplementedError
    return value.asnumpy() if hasattr(value, "asnumpy") else numpy.asarray(value)


def _tensor(value):
    return np.array(exact(value), dtype=exact(value).dtype)


def LeNet(make: Callable[[], Any], case: Case) -> tuple[int, Any]:
    """Number of parameters, and shape of what two images give."""
    model = make()
    model.initialize()
    Y = model(np.zeros((2, 1, 28, 28)))
    trained = [p for p in model.collect_params().values() if p.grad_req != "null"]
    return sum(p.data().size for p in trained), Y.shape


class Layer(StudentLayer):
    """A student's layer, as `layer_script` asks for it.

    >>> layer = Layer(lambda: nn.BatchNorm(in_channels=2), numpy.zeros((4, 2)))
    >>> layer.predict(numpy.ones((1, 2))).round(2).tolist()
    [[1.0, 1.0]]
    """

    def __init__(self, make: Callable[[], Any], X: numpy.ndarray) -> None:
        self.make = make
        self.net: Any = self._net(make)

    @staticmethod
    def _net(make):
        net = nn.Sequential()  # a layer alone cannot be saved and loaded under mx.np
        net.add(make())
        net.initialize()
        return net

    def train(self, X: numpy.ndarray, recorded: bool = True) -> numpy.ndarray:
        leaf = _tensor(X)
        if not recorded:
            with autograd.train_mode():
                return array(self.net(leaf))
        leaf.attach_grad()
        with autograd.record():
            Y = self.net(leaf)
        found = array(Y)
        Y.backward()  # where the averages may move
        return found

    def predict(self, X: numpy.ndarray, recorded: bool = False) -> numpy.ndarray:
        leaf = _tensor(X)
        if not recorded:
            return array(self.net(leaf))
        leaf.attach_grad()
        with autograd.record(train_mode=False):
            Y = self.net(leaf)
        found = array(Y)
        Y.backward(train_mode=False)
        return found

    def reload(self, X: numpy.ndarray) -> numpy.ndarray:
        kept, self.net = self.net, self._net(self.make)
        self.predict(X)
        with tempfile.TemporaryDirectory() as folder:
            file = str(pathlib.Path(folder) / "layer.params")
            kept.save_parameters(file)
            self.net.load_parameters(file)
        Y = self.predict(X)
        self.net = kept
        return Y

    def gradients(
        self, X: numpy.ndarray, dY: numpy.ndarray
    ) -> tuple[numpy.ndarray, numpy.ndarray]:
        self.predict(X)
        leaf = _tensor(X)
        leaf.attach_grad()
        with autograd.record():
            Y = self.net(leaf)
        Y.backward(_tensor(dY))
        parameters = self.net.collect_params().values()
        found = [array(p.grad()) for p in parameters if p.grad_req != "null"]
        return array(leaf.grad), in_order(found)
