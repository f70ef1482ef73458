"""Never a number again.

"Our loader sometimes yields an empty batch: a filter leaves nothing over.  It harms no
other layer.  After two batches the moving mean was [0.53, 0.44, 0.59, 0.67].  After an
empty one, in training, it was [nan, nan, nan, nan], and so it stayed through the two
good batches that came next.  Training goes on as if nothing had happened; every
prediction is nan."

Checked by `bn check exercises/find_the_bug/b14b_never_a_number_again.py`.
"""

import flax.linen as nn
import jax.numpy as jnp
from jax.lax import stop_gradient


class BatchNorm(nn.Module):
    """Batch normalization of X [N, C] (num_dims=2) or [N, H, W, C] (num_dims=4)."""

    num_features: int
    num_dims: int
    eps: float = 1e-5
    momentum: float = 0.1

    @nn.compact
    def __call__(self, X, training):
        if X.ndim != self.num_dims or X.shape[-1] != self.num_features:
            raise ValueError(f"a layer for other inputs than {X.shape}")
        if training and X.size == self.num_features:
            raise ValueError("training needs more than one value per channel")
        C = (self.num_features,)
        gamma = self.param("gamma", nn.initializers.ones, C)
        beta = self.param("beta", nn.initializers.zeros, C)
        moving_mean = self.variable("batch_stats", "moving_mean", jnp.zeros, C)
        moving_var = self.variable("batch_stats", "moving_var", jnp.ones, C)
        mean, var = moving_mean.value, moving_var.value
        if training and X.size > 0:
            axes = tuple(range(X.ndim - 1))
            mean = X.mean(axes)
            var = jnp.square(X - mean).mean(axes)
            if not self.is_initializing():
                m = self.momentum
                moved = (1 - m) * moving_mean.value + m * stop_gradient(mean)
                moving_mean.value = moved
                moved = (1 - m) * moving_var.value + m * stop_gradient(var)
                moving_var.value = moved
        X_hat = (X - mean) / jnp.sqrt(var + self.eps)
        return gamma * X_hat + beta
