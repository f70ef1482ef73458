"""Any norm layer of PyTorch, ready to be timed: forward, and forward with backward."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn


def prepare(
    layer: nn.Module, X: np.ndarray, dY: np.ndarray
) -> tuple[Callable[[], Tensor], Callable[[], None]]:
    """Two functions of nothing, for X and the cotangent dY, NumPy [N, C, *].

    `forward()` returns the output and whatever holds what backward needs; `step()` does
    one forward and one backward pass in training, and returns when both are done.
    """
    leaf, cotangent = torch.from_numpy(X).requires_grad_(), torch.from_numpy(dY)
    wanted = leaf, *layer.parameters()
    layer.train()

    def forward() -> Tensor:
        return layer(leaf)

    def step() -> None:
        torch.autograd.grad(layer(leaf), wanted, cotangent)

    return forward, step
