"""Any norm layer of Keras: NumPy in, NumPy out."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from bn_from_scratch.backends.tensorflow.builtin import NAMES


def probe(
    layer: keras.Layer,
    X: np.ndarray,
    dY: np.ndarray,
    *,
    training: bool,
    steps: int = 1,
    state: Mapping[str, np.ndarray] | None = None,
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
    if not native:
        X, dY = np.moveaxis(X, 1, -1), np.moveaxis(dY, 1, -1)
    batch, cotangent = tf.convert_to_tensor(X), tf.convert_to_tensor(dY)
    if not layer.built:
        layer.build(batch.shape)
    values = _state_of(layer)
    for name, value in (state or {}).items():
        values[name].assign(value)
    parameters = {k: values[k] for k in ("gamma", "beta") if k in values}
    wanted = {k: v.value for k, v in parameters.items() if v.trainable}
    wanted = {"X": batch} | wanted
    unconnected = tf.UnconnectedGradients.ZERO
    for _ in range(steps):
        with tf.GradientTape() as tape:
            tape.watch(batch)
            Y = layer(batch, training=training, **options)
        gradients: Any = tape.gradient(Y, wanted, [cotangent], unconnected)
    result = {"Y": Y} | {f"d{k}": v for k, v in gradients.items()}
    result |= {k: v for k, v in values.items() if k not in ("gamma", "beta")}
    result = {name: v.numpy() for name, v in result.items()}
    if native:
        return result
    return result | {name: np.moveaxis(result[name], -1, 1) for name in ("Y", "dX")}


def _state_of(layer: keras.Layer) -> dict[str, keras.Variable]:
    """The layer's parameters and statistics under our names."""
    theirs = {v: k for k, v in NAMES.items()}
    named: dict[str, keras.Variable] = {v.name: v for v in layer.variables}
    return {theirs.get(name, name): v for name, v in named.items()}
