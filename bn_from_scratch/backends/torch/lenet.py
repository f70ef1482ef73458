"""LeNet in PyTorch, with the norm layer passed in."""

from collections import OrderedDict
from collections.abc import Callable

import torch
from torch import nn

from bn_from_scratch import lenet
from bn_from_scratch.backends.torch.layer import BatchNorm


def LeNet(
    norm: Callable[..., nn.Module] | None = None, seed: int = 0, dtype: str = "float32"
) -> nn.Sequential:
    """LeNet for [N, 1, 28, 28] -> [N, 10] logits; `norm(num_features, num_dims)`.

    >>> bn.LeNet()(torch.rand(2, 1, 28, 28)).shape
    torch.Size([2, 10])
    """
    layers: dict[str, nn.Module | None] = {
        "conv1": nn.Conv2d(1, 6, kernel_size=5),
        "bn1": norm and norm(6, num_dims=4),
        "sigmoid1": nn.Sigmoid(),
        "pool1": nn.AvgPool2d(2),
        "conv2": nn.Conv2d(6, 16, kernel_size=5),
        "bn2": norm and norm(16, num_dims=4),
        "sigmoid2": nn.Sigmoid(),
        "pool2": nn.AvgPool2d(2),
        "flatten": nn.Flatten(),
        "dense1": nn.Linear(16 * 4 * 4, 120),
        "bn3": norm and norm(120, num_dims=2),
        "sigmoid3": nn.Sigmoid(),
        "dense2": nn.Linear(120, 84),
        "bn4": norm and norm(84, num_dims=2),
        "sigmoid4": nn.Sigmoid(),
        "dense3": nn.Linear(84, lenet.CLASSES),
    }
    model = nn.Sequential(OrderedDict((k, v) for k, v in layers.items() if v))
    model.to(getattr(torch, dtype))
    weights = lenet.initial_weights(seed, dtype)
    weights = {name: torch.from_numpy(w) for name, w in weights.items()}
    model.load_state_dict(weights, strict=False)  # the norm layers start as they are
    return model


def BNLeNet(
    norm: Callable[..., nn.Module] = BatchNorm, seed: int = 0, dtype: str = "float32"
) -> nn.Sequential:
    """LeNet with batch normalization after each layer but the last.

    >>> list(bn.batch_norms(bn.BNLeNet()))
    ['bn1', 'bn2', 'bn3', 'bn4']
    """
    return LeNet(norm, seed, dtype)
