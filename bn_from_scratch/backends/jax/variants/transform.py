"""Batch norm whose operands are transformed: fake quantization, noise, logging."""

from collections.abc import Callable

from jax.lax import stop_gradient

from bn_from_scratch.backends.jax.layer import BatchNorm


class TransformedBatchNorm(BatchNorm, kw_only=True):
    """`transform(gamma, beta, mean, var)` returns the four that are used instead.

    The moving averages follow the statistics as they were.  `transformed` switches it
    on and off at any time: `layer.clone(transformed=False)` takes the same variables.
    With `straight_through` the gradient passes as if it changed nothing: rounding has
    none of its own.
    """

    variant = "transform"

    transform: Callable
    straight_through: bool = False
    transformed: bool = True

    def operands(self, mean, var, training):
        mean, var, gamma, beta = super().operands(mean, var, training)
        if self.transformed:
            given = gamma, beta, mean, var
            made = self.transform(*given)
            if self.straight_through:
                pairs = zip(given, made, strict=True)
                made = (v + stop_gradient(new - v) for v, new in pairs)
            gamma, beta, mean, var = made
        return mean, var, gamma, beta
