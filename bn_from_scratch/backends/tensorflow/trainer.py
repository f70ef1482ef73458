"""Training in TensorFlow: one step, one prediction, weights in and out as NumPy."""

from collections.abc import Callable, Iterable
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tensorflow import Tensor

from bn_from_scratch import lenet, training
from bn_from_scratch.backends.tensorflow.builtin import exchange_names
from bn_from_scratch.backends.tensorflow.models.folding import fold_batch_norm
from bn_from_scratch.backends.tensorflow.models.reestimation import pooled_statistics
from bn_from_scratch.backends.tensorflow.models.surgery import batch_norms
from bn_from_scratch.surgery.description import Description

OPTIMIZERS = {"sgd": keras.optimizers.SGD, "adam": keras.optimizers.Adam}


class Trainer(training.Trainer):
    """`Trainer(max_epochs=10).fit(model, data)` for a keras.Model.

    optimizer may be a function lr -> keras.optimizers.Optimizer, too.
    compile=False runs the steps without tf.function.

    >>> import numpy as np
    >>> trainer = bn.Trainer(lr=0.5, device="cpu", compile=False)
    >>> trainer.prepare(bn.BNLeNet())
    >>> trainer.logits(np.zeros([2, 1, 28, 28], "float32")).shape
    (2, 10)
    """

    def prepare(self, model: keras.Model) -> None:
        gpu = tf.config.list_physical_devices("GPU") and self.device != "cpu"
        if self.device == "gpu" and not gpu:
            raise ValueError("device gpu was asked for; TensorFlow finds none")
        self.device_used: str = "gpu" if gpu else "cpu"
        self.place: str = "GPU:0" if gpu else "CPU:0"
        self.model: keras.Model = model
        self.dtype: str = model.trainable_variables[0].dtype
        make: Any = OPTIMIZERS.get(self.optimizer, self.optimizer)
        updater = _with_floatx(self.dtype, lambda: make(self.lr))
        self.updater: keras.optimizers.Optimizer = updater
        self.updater.build(model.trainable_variables)
        wrap: Any = (lambda f: f) if self.compile is False else tf.function
        self._compiled_step = wrap(self._step)
        self._compiled_logits = wrap(self._logits)

    def train_parts(self, parts: list[training.Part]) -> float | Tensor:
        with tf.device(self.place):
            given = [(_channels_last(X), tf.constant(y), s) for X, y, s in parts]
            return self._compiled_step(given)

    def _step(self, parts: list[tuple[Tensor, Tensor, float]]) -> float | Tensor:
        variables = self.model.trainable_variables
        losses, gradients = zip(*(self._backward(*part) for part in parts), strict=True)
        gradients = [sum(of_parts) for of_parts in zip(*gradients, strict=True)]
        self.updater.apply(gradients, variables)
        return sum(losses)

    def _backward(self, X: Tensor, y: Tensor, share: float) -> tuple[Tensor, list[Any]]:
        """The share of a part in the loss, and its gradients."""
        with tf.GradientTape() as tape:
            logits = self.model(X, training=True)
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(y, logits)
            loss = share * tf.reduce_mean(losses)
        return loss, tape.gradient(loss, self.model.trainable_variables)

    def logits(self, X: np.ndarray) -> np.ndarray:
        with tf.device(self.place):
            return self._compiled_logits(_channels_last(X)).numpy()

    def _logits(self, X: Tensor) -> Tensor:
        return self.model(X, training=False)

    def activations(self, X: np.ndarray) -> dict[str, np.ndarray]:
        layers = (layer for layer in self.model.layers if layer.name in lenet.LAYERS)
        outputs = {layer.name: layer.output for layer in layers}
        with tf.device(self.place):
            found = keras.Model(self.model.inputs, outputs)(_channels_last(X))
        return {name: _channels_first(Y) for name, Y in found.items()}

    def get_weights(self) -> training.Weights:
        named = exchange_names(self.model)
        return {k: lenet.to_channels_first(k, v.numpy()) for k, v in named.items()}

    def write_weights(self, weights: training.Weights) -> None:
        for name, variable in exchange_names(self.model).items():
            variable.assign(lenet.to_channels_last(name, weights[name]))

    def pooled_statistics(
        self, batches: Iterable[np.ndarray]
    ) -> dict[str, training.Weights]:
        return pooled_statistics(self.model, map(_channels_last, batches))

    def descriptions(self) -> dict[str, Description]:
        return batch_norms(self.model)

    def fold_on(self, X: np.ndarray) -> None:
        self.prepare(fold_batch_norm(self.model, _channels_last(X)))


def _channels_last(X: np.ndarray) -> Tensor:
    return tf.constant(np.moveaxis(X, 1, -1))


def _channels_first(Y: Tensor) -> np.ndarray:
    return np.moveaxis(Y.numpy(), -1, 1)


def _with_floatx(
    dtype: str, make: Callable[[], keras.optimizers.Optimizer]
) -> keras.optimizers.Optimizer:
    """What `make` returns, with Keras's default dtype set meanwhile.

    An optimizer keeps its learning rate in that dtype: 0.1 in float32 is 0.1 + 1.5e-9.
    """
    before = keras.config.floatx()
    keras.config.set_floatx(dtype)
    try:
        return make()
    finally:
        keras.config.set_floatx(before)
