"""Nobody complained.

"In a long network I forgot the convolution, and a layer made for images, num_dims=4,
got a table of shape (5, 4).  No error: it answered with a (5, 4) and its moving
averages moved on.  I found out two days later.  I would have liked to be told at once:
what else is num_dims for?"

Checked by `bn check exercises/find_the_bug/b13_nobody_complained.py`.
"""

import torch
from torch import nn


class BatchNorm(nn.Module):
    """Batch normalization of X [N, C] (num_dims=2) or [N, C, H, W] (num_dims=4)."""

    def __init__(self, num_features, num_dims, eps=1e-5, momentum=0.1):
        super().__init__()
        if num_dims not in (2, 4):
            raise ValueError(f"num_dims must be 2 or 4; got {num_dims}")
        self.num_features, self.num_dims = num_features, num_dims
        self.eps, self.momentum = eps, momentum
        self.gamma = nn.Parameter(torch.ones(num_features))
        self.beta = nn.Parameter(torch.zeros(num_features))
        self.register_buffer("moving_mean", torch.zeros(num_features))
        self.register_buffer("moving_var", torch.ones(num_features))

    def forward(self, X):
        if X.shape[1] != self.num_features:
            raise ValueError(f"{X.shape[1]} channels; made for {self.num_features}")
        n = X.numel() // self.num_features
        if self.training and n == 1:
            raise ValueError("training needs more than one value per channel")
        mean, var = self.moving_mean, self.moving_var
        if self.training and n > 0:
            mean, var = self.learn(X)
        shape = (1, self.num_features) + (1,) * (X.ndim - 2)
        std = torch.sqrt(var + self.eps)
        X_hat = (X - mean.view(shape)) / std.view(shape)
        return self.gamma.view(shape) * X_hat + self.beta.view(shape)

    def learn(self, X):
        """The statistics of X [N, C, *]; the moving averages go one batch on."""
        axes = (0, *range(2, X.ndim))
        mean, var = X.mean(axes), X.var(axes, correction=0)
        m = self.momentum
        self.moving_mean = (1 - m) * self.moving_mean + m * mean.detach()
        self.moving_var = (1 - m) * self.moving_var + m * var.detach()
        return mean, var
