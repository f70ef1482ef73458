"""Answers in JAX: functions of arrays, and a Flax linen module."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bn_from_scratch.checker.adapters import StudentLayer, exact, first, gradients_of
from bn_from_scratch.checker.cases import Case
from bn_from_scratch.checker.layer_script import in_order


def call(
    function: Callable[..., Any], case: Case
) -> tuple[Any, dict[str, Any], list[Any]]:
    """Outputs of one call, gradients by name, and the arguments after it."""
    arguments = {name: _tensor(a) for name, a in case.arguments.items()}
    outputs = function(*arguments.values(), **case.options)
    found = {}
    if wanted := gradients_of(case):
        rest = [v for name, v in arguments.items() if name not in wanted]

        def Y_of(*inputs):
            return first(function(*inputs, *rest, **case.options))

        _, backward = jax.vjp(Y_of, *(arguments[name] for name in wanted))
        gradients = backward(_tensor(case.cotangent))
        found = {f"d{k}": g for k, g in zip(wanted, gradients, strict=True)}
    return outputs, found, list(arguments.values())


def array(value: Any) -> np.ndarray:
    """NumPy array of an output."""
    if value is None:
        raise NotImplementedError
    return np.asarray(value)


def _tensor(value):
    return jnp.asarray(exact(value))


def LeNet(make: Callable[[], Any], case: Case) -> tuple[int, Any]:
    """Number of parameters, and shape of what two images give."""
    images = jnp.zeros((2, 28, 28, 1))
    Y, variables = make().init_with_output(jax.random.key(0), images, training=False)
    return sum(p.size for p in jax.tree.leaves(variables["params"])), Y.shape


class Layer(StudentLayer):
    """A student's layer, as `layer_script` asks for it.

    >>> from bn_from_scratch import jax as bn
    >>> layer = Layer(lambda: bn.BatchNorm(2, 2), np.zeros((4, 2)))
    >>> layer.predict(np.ones((1, 2))).round(2).tolist()
    [[1.0, 1.0]]
    """

    def __init__(self, make: Callable[[], Any], X: np.ndarray) -> None:
        self.layer: Any = make()
        self.fresh: Any = self.layer.init(jax.random.key(0), _tensor(X), training=True)
        self.variables: Any = self.fresh

    def _call(self, variables, X, training):
        """Y, and every variable but the parameters as the call leaves it."""
        moving = [name for name in variables if name != "params"]
        return self.layer.apply(variables, X, training=training, mutable=moving)

    def _forward(self, X, training):
        Y, moved = self._call(self.variables, _tensor(X), training)
        self.variables = {**self.variables, **moved}
        return array(Y)

    def train(self, X: np.ndarray, recorded: bool = True) -> np.ndarray:
        return self._forward(X, True)

    def predict(self, X: np.ndarray, recorded: bool = False) -> np.ndarray:
        return self._forward(X, False)

    def reload(self, X: np.ndarray) -> np.ndarray:
        self.layer = self.layer.clone()  # the variables are all there is to save
        return self.predict(X)

    def gradients(self, X: np.ndarray, dY: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        def Y_of(X, params):
            return self._call({**self.variables, "params": params}, X, True)[0]

        params = self.variables.get("params", {})
        _, backward = jax.vjp(Y_of, _tensor(X), params)
        dX, dparams = backward(_tensor(dY))
        return array(dX), in_order([array(g) for g in jax.tree.leaves(dparams)])
