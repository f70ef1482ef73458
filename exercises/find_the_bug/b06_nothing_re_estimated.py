"""The averages do not follow the new data.

"Our data moved: its mean went from 3 to -1.  No need to train again, I thought: put the
layer into .train() and show it 100 batches of the new data under torch.no_grad(), so
that the moving averages follow.  The moving mean of the first channel was 2.62 before
and is 2.62 after, to the last digit.  self.training was True all the time."

Checked by `bn check exercises/find_the_bug/b06_nothing_re_estimated.py`.
"""

import torch
from torch import nn


class BatchNorm(nn.Module):
    """Batch normalization of X [N, C] (num_dims=2) or [N, C, H, W] (num_dims=4)."""

    def __init__(self, num_features, num_dims, eps=1e-5, momentum=0.1):
        super().__init__()
        self.num_features, self.num_dims = num_features, num_dims
        self.eps, self.momentum = eps, momentum
        self.gamma = nn.Parameter(torch.ones(num_features))
        self.beta = nn.Parameter(torch.zeros(num_features))
        self.register_buffer("moving_mean", torch.zeros(num_features))
        self.register_buffer("moving_var", torch.ones(num_features))

    def forward(self, X):
        self.check(X)
        if self.training and torch.is_grad_enabled() and len(X) > 0:
            mean, var = self.learn(X)
        else:
            mean, var = self.moving_mean, self.moving_var
        scale = self.gamma / torch.sqrt(var + self.eps)
        shift = self.beta - mean * scale
        shape = (1, self.num_features) + (1,) * (self.num_dims - 2)
        return X * scale.view(shape) + shift.view(shape)

    def learn(self, X):
        """The statistics of X [N, C, *]; the moving averages go one batch on."""
        axes = (0, *range(2, self.num_dims))
        var, mean = torch.var_mean(X, axes, correction=0)
        m = self.momentum
        self.moving_mean = (1 - m) * self.moving_mean + m * mean.detach()
        self.moving_var = (1 - m) * self.moving_var + m * var.detach()
        return mean, var

    def check(self, X):
        """Refuse what the layer is not made for."""
        if X.ndim != self.num_dims or X.shape[1] != self.num_features:
            raise ValueError(f"a layer for other inputs than {tuple(X.shape)}")
        if self.training and X.numel() == self.num_features:
            raise ValueError("training needs more than one value per channel")
