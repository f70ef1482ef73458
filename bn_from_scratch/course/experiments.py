"""LeNet with its parts exchangeable, and one call to train it: PyTorch only.

The experiments of the notebooks and of the exercises compare networks, not frameworks;
PyTorch is the quickest of the four to start.
"""

import dataclasses
import math
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from bn_from_scratch import lenet
from bn_from_scratch import torch as bn
from bn_from_scratch.data import Dataset

LAYERS = ("conv1", "conv2", "dense1", "dense2")  # those that a norm may follow


def network(
    norm: Callable[..., Any] | None = bn.BatchNorm,
    *,
    where: tuple[int, ...] = (1, 2, 3, 4),
    bias: bool = True,
    before: bool = True,
    activation: Callable[[], nn.Module] = nn.Sigmoid,
    dropout: float = 0.0,
    seed: int = 0,
) -> nn.Sequential:
    """LeNet for [N, 1, 28, 28] -> [N, 10] logits, from the weights of the seed.

    norm: (num_features, num_dims) -> layer, or None; where: the layers it follows,
    1 to 4.  bias: whether those layers have a bias of their own.  before: the norm
    stands before the activation, or after it.  dropout: its rate, after the activation
    of the dense layers.
    """
    layers = OrderedDict()
    for i, name in enumerate(LAYERS, 1):
        out, fan_in, *kernel = lenet.SHAPES[name]
        make = norm if i in where else None
        has_bias = bias or make is None
        if i == 3:
            layers["flatten"] = nn.Flatten()
        if kernel:
            layers[name] = nn.Conv2d(fan_in, out, kernel[0], bias=has_bias)
        else:
            layers[name] = nn.Linear(fan_in, out, bias=has_bias)
        norms = {f"bn{i}": make(out, num_dims=4 if kernel else 2)} if make else {}
        act = {f"act{i}": activation()}
        layers |= norms | act if before else act | norms
        if kernel:
            layers[f"pool{i}"] = nn.AvgPool2d(2)
        elif dropout:
            layers[f"dropout{i}"] = nn.Dropout(dropout)
    layers["dense3"] = nn.Linear(lenet.SHAPES["dense3"][1], lenet.CLASSES)
    model = nn.Sequential(layers)
    state = model.state_dict()
    for name, array in lenet.initial_weights(seed).items():
        if name in state:  # a layer before a norm may lack its bias
            state[name].copy_(torch.from_numpy(array))
    return model


@dataclasses.dataclass
class Run:
    """What an experiment leaves: the loss of every step, and the test set's verdict.

    >>> Run(loss=[2.4, 2.31, 2.5], val_loss=2.6, val_accuracy=0.1).diverged
    True
    """

    loss: list[float]
    val_loss: float
    val_accuracy: float

    @property
    def diverged(self) -> bool:
        """Whether the loss left the numbers, or ended above that of guessing."""
        return not (np.mean(self.loss[-10:]) < math.log(lenet.CLASSES))


def train(
    model: nn.Module,
    data: Dataset,
    *,
    epochs: int = 1,
    lr: float = 0.1,
    batch_size: int = 128,
    seed: int = 0,
    optimizer: Any = "sgd",
) -> Run:
    """Train a network on the data set; return a Run."""
    trainer = bn.Trainer(
        max_epochs=epochs,
        lr=lr,
        batch_size=batch_size,
        optimizer=optimizer,
        seed=seed,
        progress=False,
    )
    history = trainer.fit(model, data)
    return Run(history.loss, history.val_loss[-1], history.val_accuracy[-1])
