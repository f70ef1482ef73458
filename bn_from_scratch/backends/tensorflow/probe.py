"""Any batch norm layer of Keras: NumPy in, NumPy out."""

import numpy as np
import tensorflow as tf

from bn_from_scratch.backends.tensorflow.builtin import NAMES


def probe(layer, X, dY, *, training, steps=1, state=None):
    """Feed X [N, C, *] and the cotangent dY forward and backward, `steps` times over.

    Returns NumPy arrays: Y, dX [N, C, *], dgamma, dbeta [C] of the last pass and the
    moving_mean, moving_var [C] it leaves.  `state` (gamma, beta, moving_mean,
    moving_var) is written into the layer first.
    """
    X, dY = (tf.convert_to_tensor(np.moveaxis(v, 1, -1)) for v in (X, dY))
    if not layer.built:
        layer.build(X.shape)
    names = {ours: ours if hasattr(layer, ours) else NAMES[ours] for ours in NAMES}
    values = {ours: getattr(layer, theirs) for ours, theirs in names.items()}
    for name, value in (state or {}).items():
        values[name].assign(value)
    wanted = X, values["gamma"].value, values["beta"].value
    for _ in range(steps):
        with tf.GradientTape() as tape:
            tape.watch(X)
            Y = layer(X, training=training)
        dX, dgamma, dbeta = tape.gradient(Y, wanted, dY)
    result = {"Y": Y, "dX": dX, "dgamma": dgamma, "dbeta": dbeta}
    result |= {name: values[name] for name in ("moving_mean", "moving_var")}
    result = {name: v.numpy() for name, v in result.items()}
    return result | {name: np.moveaxis(result[name], -1, 1) for name in ("Y", "dX")}
