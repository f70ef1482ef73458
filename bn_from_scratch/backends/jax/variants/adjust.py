"""Batch norm with an adjustment before gamma and beta: noise that regularizes."""

from collections.abc import Callable

from bn_from_scratch.backends.jax.layer import BatchNorm
from bn_from_scratch.backends.jax.variants.renorm import scale_and_shift


class AdjustedBatchNorm(BatchNorm, kw_only=True):
    """Training scales and shifts X_hat before gamma and beta do.

    adjustment: a pair (scale, shift), each a number or [C]; or a function of a key and
    the shape [C] that returns such a pair, random perhaps, at every call.  The key is
    of the stream "adjustment": `apply(..., rngs={"adjustment": key})`.
    """

    variant = "adjust"

    adjustment: tuple | Callable

    def operands(self, mean, var, training):
        mean, var, gamma, beta = super().operands(mean, var, training)
        if training:
            pair = self.adjustment
            if callable(pair):
                pair = pair(self.make_rng("adjustment"), mean.shape)
            scale, shift = pair
            gamma, beta = scale_and_shift(gamma, beta, scale, shift)
        return mean, var, gamma, beta
