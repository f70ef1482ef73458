"""Any norm layer of Keras, ready to be timed: forward, and forward with backward."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf


def prepare(
    layer: keras.Layer, X: np.ndarray, dY: np.ndarray
) -> tuple[Callable[[], Any], Callable[[], None]]:
    """Two functions of nothing, for X and the cotangent dY, NumPy [N, C, *].

    `forward()` returns the output and whatever holds what backward needs; `step()` does
    one forward and one backward pass in training, and returns when both are done.
    """
    batch, cotangent = (tf.constant(np.moveaxis(v, 1, -1)) for v in (X, dY))
    layer.build(batch.shape)
    params = [v.value for v in layer.trainable_variables]

    @tf.function
    def apply(X):
        return layer(X, training=True)

    @tf.function
    def both(X, dY):
        with tf.GradientTape() as tape:
            tape.watch(X)
            Y = layer(X, training=True)
        return Y, tape.gradient(Y, [X, *params], dY)

    def forward():
        with tf.GradientTape() as tape:
            tape.watch(batch)
            Y = apply(batch)
        return Y, tape

    def step():
        both(batch, cotangent)

    return forward, step
