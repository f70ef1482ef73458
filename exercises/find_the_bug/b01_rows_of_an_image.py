"""Sky and ground come out alike.

"My images are bright above (0.90 on average) and dark below (0.10).  After this batch
norm in training the two halves average 0.00 and 0.00: the horizon is gone.  It took my
28 rows without a word; predicting an image of 20 rows raises a TypeError about shapes.
And what comes back as the moving mean of 3 channels has the shape (1, 28, 1, 3)."

Checked by `bn check exercises/find_the_bug/b01_rows_of_an_image.py`.
"""

import jax.numpy as jnp
from jax.lax import rsqrt, stop_gradient


def average(X):
    """The mean over all axes but the channels, which stay in their place."""
    axes = (0,) if X.ndim == 2 else (0, 2, 3)
    return X.mean(axes, keepdims=True)


def batch_norm(X, gamma, beta, moving_mean, moving_var, *, training, eps, momentum):
    """Batch-normalize X [N, C] or [N, H, W, C]; return Y and the moving averages.

    gamma, beta [C].  The moving averages have C values, whatever axes stand before.
    momentum: weight of the new batch.
    """
    if not training:
        X_hat = (X - moving_mean) * rsqrt(moving_var + eps)
        return gamma * X_hat + beta, moving_mean, moving_var

    mean = average(X)
    centred = X - mean
    var = average(jnp.square(centred))
    Y = gamma * (centred * rsqrt(var + eps)) + beta

    mean, var = stop_gradient((mean, var))
    moving_mean = (1 - momentum) * moving_mean + momentum * mean
    moving_var = (1 - momentum) * moving_var + momentum * var
    return Y, moving_mean, moving_var
