"""Half a batch norm: only the mean, or only the variance (d2l's fourth exercise)."""

import jax.numpy as jnp

from bn_from_scratch.backends.jax.batch_norm import normalize
from bn_from_scratch.backends.jax.layer import BatchNorm


class MeanOnlyBatchNorm(BatchNorm):
    """X minus its mean, scaled and shifted (Salimans and Kingma 2016)."""

    variant = "mean_only"

    def normalize(self, X, mean, var, axis, training):
        mean, var, gamma, beta = self.operands(mean, var, training)
        return normalize(X, mean, jnp.ones_like(var), gamma, beta, 0, axis)


class VarOnlyBatchNorm(BatchNorm):
    """X divided by its standard deviation, scaled and shifted; its mean remains."""

    variant = "var_only"

    def normalize(self, X, mean, var, axis, training):
        mean, var, gamma, beta = self.operands(mean, var, training)
        return normalize(X, jnp.zeros_like(mean), var, gamma, beta, self.eps, axis)
