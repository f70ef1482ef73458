"""Nothing but beta.

"In float16, with inputs of standard deviation 300, the layer's output is one and the
same number: with gamma 1 and beta 0.5 all 256 values were 0.5.  The moving mean looks
reasonable, the moving variance is inf.  No input is anywhere near the largest number of
float16, which is 65,504."

Checked by `bn check exercises/find_the_bug/b16_nothing_but_beta.py`.
"""

import torch


def statistics(X):
    """The mean and the biased variance of each channel of X [N, C, *]."""
    axes = [axis for axis in range(X.ndim) if axis != 1]
    X = X.float()
    mean = X.mean(axes, keepdim=True)
    var = (X - mean).square().mean(axes, keepdim=True)
    return mean, var


def batch_norm_half(
    X, gamma, beta, moving_mean, moving_var, *, training, eps, momentum
):
    """Batch-normalize a float16 X [N, C, *]; return Y and the new moving averages.

    gamma, beta, moving_mean, moving_var [C], float32.  Y float16.
    momentum: weight of the new batch.
    """
    shape = (1, -1) + (1,) * (X.ndim - 2)
    if training:
        mean, var = statistics(X)
        old, new = 1 - momentum, momentum
        moving_mean = old * moving_mean + new * mean.detach().flatten()
        moving_var = old * moving_var + new * var.detach().flatten()
    else:
        mean, var = moving_mean.view(shape), moving_var.view(shape)
    X_hat = (X - mean) / torch.sqrt(var + eps)
    Y = gamma.view(shape) * X_hat + beta.view(shape)
    return Y.to(X.dtype), moving_mean, moving_var
