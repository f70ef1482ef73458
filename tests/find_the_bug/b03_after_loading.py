"""It was right until I loaded it.

"After 20 batches of 32 (mean 3, standard deviation 2) I saved the state_dict and loaded
it into a new layer.  PyTorch said <All keys matched successfully>.  Put into prediction
mode, the old and the new layer differ by up to 4.67 on the same batch.  In the session
that trained the layer everything is fine."

Checked by `bn check exercises/find_the_bug/b03_after_loading.py`.
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
        if X.ndim != self.num_dims or X.shape[1] != self.num_features:
            raise ValueError(f"a layer for other inputs than {tuple(X.shape)}")
        n = X.numel() // self.num_features
        if self.training and n == 1:
            raise ValueError("training needs more than one value per channel")
        if self.training and n > 0:
            axes = [axis for axis in range(X.ndim) if axis != 1]
            mean = X.mean(axes)
            var = X.var(axes, correction=0)
            self.update(mean.detach(), var.detach())
        else:
            mean, var = self.moving_mean, self.moving_var
        X_hat = (X - self.like(X, mean)) / torch.sqrt(self.like(X, var) + self.eps)
        return self.like(X, self.gamma) * X_hat + self.like(X, self.beta)

    def update(self, mean, var):
        """Move the moving averages one batch on."""
        m = self.momentum
        self.moving_mean = (1 - m) * self.moving_mean + m * mean
        self.moving_var = (1 - m) * self.moving_var + m * var

    @staticmethod
    def like(X, v):
        """v [C] with an axis for each of X."""
        return v.reshape(1, -1, *[1] * (X.ndim - 2))
