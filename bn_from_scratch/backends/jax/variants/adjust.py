"""Batch norm with an adjustment before gamma and beta: noise that regularizes."""

from collections.abc import Callable

from jax import Array

from bn_from_scratch.backends.jax.layer import BatchNorm, Operands
from bn_from_scratch.backends.jax.variants.renorm import scale_and_shift

Pair = tuple[float | Array, float | Array]  # scale, shift


class AdjustedBatchNorm(BatchNorm, kw_only=True):
    """Training scales and shifts X_hat before gamma and beta do.

    adjustment: a pair (scale, shift), each a number or [C]; or a function of a key and
    the shape [C] that returns such a pair, random perhaps, at every call.  The key is
    of the stream "adjustment": `apply(..., rngs={"adjustment": key})`.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> layer = bn.AdjustedBatchNorm(1, adjustment=(2.0, 1.0))
    >>> X = jnp.array([[-1.0], [1.0]])
    >>> Y, _ = layer.init_with_output(jax.random.key(0), X, training=True)
    >>> print(Y.round(2))
    [[-1.]
     [ 3.]]
    """

    variant = "adjust"

    adjustment: Pair | Callable[[Array, tuple[int, ...]], Pair]

    def operands(self, mean: Array, var: Array, training: bool) -> Operands:
        mean, var, gamma, beta = super().operands(mean, var, training)
        if training:
            pair = self.adjustment
            if callable(pair):
                pair = pair(self.make_rng("adjustment"), mean.shape)
            scale, shift = pair
            gamma, beta = scale_and_shift(gamma, beta, scale, shift)
        return mean, var, gamma, beta
