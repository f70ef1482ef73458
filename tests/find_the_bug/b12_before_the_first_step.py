"""Something happened before the first step.

"I initialize the network as the tutorial does, layer.init(key, jnp.ones((8, 4)),
training=True), and print the state before any data has been seen.  The moving mean is
0.1 in every channel where I expected 0, the moving variance 0.9 where I expected 1.
With another dummy batch the numbers are others."

Checked by `bn check exercises/find_the_bug/b12_before_the_first_step.py`.
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
            mean, var = X.mean(axes), X.var(axes)
            if not self.is_initializing():
                self.move(moving_mean, mean)
                self.move(moving_var, var)
        return gamma * (X - mean) / jnp.sqrt(var + self.eps) + beta

    def move(self, moving, batch):
        """Move a moving average one batch on."""
        batch = stop_gradient(batch)
        moving.value = (1 - self.momentum) * moving.value + self.momentum * batch
