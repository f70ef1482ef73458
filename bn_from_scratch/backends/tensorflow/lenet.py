"""LeNet in Keras, with the norm layer passed in."""

from collections.abc import Callable
from functools import partial

import keras
from keras import layers as nn

from bn_from_scratch import lenet
from bn_from_scratch.backends.tensorflow.layer import BatchNorm


def LeNet(
    norm: Callable[..., keras.Layer] | None = None,
    seed: int = 0,
    dtype: str = "float32",
) -> keras.Sequential:
    """LeNet for [N, 28, 28, 1] -> [N, 10] logits; `norm(num_features, num_dims)`.

    >>> import keras
    >>> bn.LeNet()(keras.ops.zeros([2, 28, 28, 1])).shape
    TensorShape([2, 10])
    """
    C, H, W = lenet.IMAGE
    layers = {
        "conv1": partial(nn.Conv2D, 6, kernel_size=5),
        "bn1": norm and partial(norm, 6, num_dims=4),
        "sigmoid1": partial(nn.Activation, "sigmoid"),
        "pool1": partial(nn.AveragePooling2D, 2),
        "conv2": partial(nn.Conv2D, 16, kernel_size=5),
        "bn2": norm and partial(norm, 16, num_dims=4),
        "sigmoid2": partial(nn.Activation, "sigmoid"),
        "pool2": partial(nn.AveragePooling2D, 2),
        "flatten": nn.Flatten,
        "dense1": partial(nn.Dense, 120),
        "bn3": norm and partial(norm, 120, num_dims=2),
        "sigmoid3": partial(nn.Activation, "sigmoid"),
        "dense2": partial(nn.Dense, 84),
        "bn4": norm and partial(norm, 84, num_dims=2),
        "sigmoid4": partial(nn.Activation, "sigmoid"),
        "dense3": partial(nn.Dense, lenet.CLASSES),
    }
    # Keras fixes names and dtypes when a layer is made.
    made = [make(name=k, dtype=dtype) for k, make in layers.items() if make]
    model = keras.Sequential([keras.Input((H, W, C), dtype=dtype), *made])
    for name, w in lenet.initial_weights(seed, dtype).items():
        layer, kind = name.split(".")
        variable = {"weight": "kernel", "bias": "bias"}[kind]
        w = lenet.to_channels_last(name, w)
        getattr(model.get_layer(layer), variable).assign(w)
    return model


def BNLeNet(
    norm: Callable[..., keras.Layer] = BatchNorm, seed: int = 0, dtype: str = "float32"
) -> keras.Sequential:
    """LeNet with batch normalization after each layer but the last.

    >>> list(bn.batch_norms(bn.BNLeNet()))
    ['bn1', 'bn2', 'bn3', 'bn4']
    """
    return LeNet(norm, seed, dtype)
