"""Answers in TensorFlow: functions of tensors, and a Keras layer."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from bn_from_scratch.checker.adapters import StudentLayer, exact, first, gradients_of
from bn_from_scratch.checker.cases import Case
from bn_from_scratch.checker.layer_script import in_order


def call(
    function: Callable[..., Any], case: Case
) -> tuple[Any, dict[str, Any], list[Any]]:
    """Outputs of one call, gradients by name, and the arguments after it."""
    arguments = {name: _tensor(a) for name, a in case.arguments.items()}
    wanted = {name: arguments[name] for name in gradients_of(case)}
    with tf.GradientTape() as tape:
        tape.watch(wanted)
        outputs = function(*arguments.values(), **case.options)
    found = {}
    if wanted:
        found = _gradients(tape, first(outputs), wanted, case.cotangent)
    return outputs, found, list(arguments.values())


def array(value: Any) -> np.ndarray:
    """NumPy array of an output."""
    if value is None:
        raise NotImplementedError
    return tf.convert_to_tensor(value).numpy()


def _tensor(value):
    return tf.constant(exact(value))


def _gradients(tape, Y, wanted, dY):
    found = tape.gradient(Y, wanted, _tensor(dY), unconnected_gradients="zero")
    return {f"d{name}": gradient for name, gradient in found.items()}


def LeNet(make: Callable[[], Any], case: Case) -> tuple[int, Any]:
    """Number of parameters, and shape of what two images give."""
    model = make()
    Y = model(tf.zeros((2, 28, 28, 1)), training=False)
    return sum(int(tf.size(w)) for w in model.trainable_weights), Y.shape


def fit(function: Callable[..., Any], case: Case) -> tuple[Any, Any]:
    """The moving averages of a Keras network's first layer after some training."""
    X, y = (_tensor(v) for v in case.arguments.values())
    norm = keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5)
    model = keras.Sequential([norm, keras.layers.Dense(2)])
    model.build(X.shape)
    function(model, X, y, **case.options)
    return norm.moving_mean, norm.moving_variance


class Layer(StudentLayer):
    """A student's layer, as `layer_script` asks for it.

    >>> layer = Layer(keras.layers.BatchNormalization, np.zeros((4, 2)))
    >>> layer.predict(np.ones((1, 2))).round(2).tolist()
    [[1.0, 1.0]]
    """

    def __init__(self, make: Callable[[], Any], X: np.ndarray) -> None:
        self.make = make
        self.layer: Any = make()
        self.layer(_tensor(X), training=False)  # builds it

    def train(self, X: np.ndarray, recorded: bool = True) -> np.ndarray:
        return array(self.layer(_tensor(X), training=True))

    def predict(self, X: np.ndarray, recorded: bool = False) -> np.ndarray:
        return array(self.layer(_tensor(X), training=False))

    def reload(self, X: np.ndarray) -> np.ndarray:
        kept, self.layer = self.layer, self.make()
        self.predict(X)
        self.layer.set_weights(kept.get_weights())
        Y = self.predict(X)
        self.layer = kept
        return Y

    def frozen(self, X: np.ndarray) -> np.ndarray:
        self.layer.trainable = False
        return self.train(X)

    def gradients(self, X: np.ndarray, dY: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        weights = {str(i): w.value for i, w in enumerate(self.layer.trainable_weights)}
        wanted = {"X": _tensor(X)} | weights
        with tf.GradientTape() as tape:
            tape.watch(wanted)
            Y = self.layer(wanted["X"], training=True)
        dX, *parameters = _gradients(tape, Y, wanted, dY).values()
        return array(dX), in_order([np.asarray(g) for g in parameters])
