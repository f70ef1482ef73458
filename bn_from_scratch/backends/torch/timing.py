"""Any norm layer of PyTorch, ready to be timed: forward, and forward with backward."""

import torch


def prepare(layer, X, dY):
    """Two functions of nothing, for X and the cotangent dY, NumPy [N, C, *].

    `forward()` returns the output and whatever holds what backward needs; `step()` does
    one forward and one backward pass in training, and returns when both are done.
    """
    X, dY = torch.from_numpy(X).requires_grad_(), torch.from_numpy(dY)
    wanted = X, *layer.parameters()
    layer.train()

    def forward():
        return layer(X)

    def step():
        torch.autograd.grad(layer(X), wanted, dY)

    return forward, step
