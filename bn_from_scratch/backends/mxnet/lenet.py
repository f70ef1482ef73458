"""LeNet in MXNet, with the norm layer passed in."""

from collections.abc import Callable

from mxnet import np
from mxnet.gluon import HybridBlock, nn

from bn_from_scratch import lenet
from bn_from_scratch.backends.mxnet.layer import BatchNorm


def LeNet(
    norm: Callable[..., nn.Block] | None = None, seed: int = 0, dtype: str = "float32"
) -> nn.Block:
    """LeNet for [N, 1, 28, 28] -> [N, 10] logits; `norm(num_features, num_dims)`.

    >>> bn.LeNet()(np.zeros((2, 1, 28, 28))).shape
    (2, 10)
    """
    layers = {
        "conv1": nn.Conv2D(6, kernel_size=5, in_channels=1),
        "bn1": norm and norm(6, num_dims=4),
        "sigmoid1": nn.Activation("sigmoid"),
        "pool1": nn.AvgPool2D(2),
        "conv2": nn.Conv2D(16, kernel_size=5, in_channels=6),
        "bn2": norm and norm(16, num_dims=4),
        "sigmoid2": nn.Activation("sigmoid"),
        "pool2": nn.AvgPool2D(2),
        "flatten": nn.Flatten(),
        "dense1": nn.Dense(120, in_units=16 * 4 * 4),
        "bn3": norm and norm(120, num_dims=2),
        "sigmoid3": nn.Activation("sigmoid"),
        "dense2": nn.Dense(84, in_units=120),
        "bn4": norm and norm(84, num_dims=2),
        "sigmoid4": nn.Activation("sigmoid"),
        "dense3": nn.Dense(lenet.CLASSES, in_units=84),
    }
    layers = {name: layer for name, layer in layers.items() if layer is not None}
    hybrid = all(isinstance(layer, HybridBlock) for layer in layers.values())
    model = nn.HybridSequential() if hybrid else nn.Sequential()
    for name, layer in layers.items():
        setattr(model, name, layer)
    model.initialize()  # MXNet draws in float32 only
    model.cast(dtype)
    parameters = model._collect_params_with_prefix()
    for name, w in lenet.initial_weights(seed, dtype).items():
        parameters[name].set_data(np.array(w, dtype=dtype))
    return model


def BNLeNet(
    norm: Callable[..., nn.Block] = BatchNorm, seed: int = 0, dtype: str = "float32"
) -> nn.Block:
    """LeNet with batch normalization after each layer but the last.

    >>> list(bn.batch_norms(bn.BNLeNet()))
    ['bn1', 'bn2', 'bn3', 'bn4']
    """
    return LeNet(norm, seed, dtype)
