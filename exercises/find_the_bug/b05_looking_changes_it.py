"""Looking at it changes it.

"The layer was trained on 20 batches and put into .eval().  Then I wanted to know to
which inputs its answer is sensitive, and took the gradient with respect to 8 examples
of another data set.  After that the moving variance of the first channel was 21.8,
before it 3.3, and predictions on the old data had moved by up to 2.4.  For a single
example I got a ValueError about training.  I never called .train()!"

Checked by `bn check exercises/find_the_bug/b05_looking_changes_it.py`.
"""

import torch
from torch import nn


def standardize(X, mean, var, eps):
    """X [N, C, *] with the mean and the variance [C] taken out of its channels."""
    shape = (1, -1) + (1,) * (X.ndim - 2)
    return (X - mean.view(shape)) / torch.sqrt(var.view(shape) + eps)


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
        training = torch.is_grad_enabled()
        if training and n == 1:
            raise ValueError("training needs more than one value per channel")
        mean, var = self.moving_mean, self.moving_var
        if training and n > 0:
            axes = (0, *range(2, X.ndim))
            mean, var = X.mean(axes), X.var(axes, correction=0)
            with torch.no_grad():
                self.moving_mean.lerp_(mean, self.momentum)
                self.moving_var.lerp_(var, self.momentum)
        X_hat = standardize(X, mean, var, self.eps)
        shape = (1, -1) + (1,) * (X.ndim - 2)
        return self.gamma.view(shape) * X_hat + self.beta.view(shape)
