"""Half a batch norm: only the mean, or only the variance (d2l's fourth exercise)."""

import jax.numpy as jnp
from jax import Array

from bn_from_scratch.backends.jax.batch_norm import normalize
from bn_from_scratch.backends.jax.layer import BatchNorm
from bn_from_scratch.spec import Axis


class MeanOnlyBatchNorm(BatchNorm):
    """X minus its mean, scaled and shifted (Salimans and Kingma 2016).

    >>> import jax
    >>> import jax.numpy as jnp
    >>> layer = bn.MeanOnlyBatchNorm(1)
    >>> X = jnp.array([[1.0], [5.0]])
    >>> Y, _ = layer.init_with_output(jax.random.key(0), X, training=True)
    >>> print(Y)
    [[-2.]
     [ 2.]]
    """

    variant = "mean_only"

    def normalize(
        self, X: Array, mean: Array, var: Array, axis: Axis, training: bool
    ) -> Array:
        mean, var, gamma, beta = self.operands(mean, var, training)
        return normalize(X, mean, jnp.ones_like(var), gamma, beta, 0, axis)


class VarOnlyBatchNorm(BatchNorm):
    """X divided by its standard deviation, scaled and shifted; its mean remains.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> layer = bn.VarOnlyBatchNorm(1)
    >>> X = jnp.array([[2.0], [6.0]])
    >>> Y, _ = layer.init_with_output(jax.random.key(0), X, training=True)
    >>> print(Y.round(2))
    [[1.]
     [3.]]
    """

    variant = "var_only"

    def normalize(
        self, X: Array, mean: Array, var: Array, axis: Axis, training: bool
    ) -> Array:
        mean, var, gamma, beta = self.operands(mean, var, training)
        return normalize(X, jnp.zeros_like(mean), var, gamma, beta, self.eps, axis)
