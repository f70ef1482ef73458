"""Batch norm whose operands are transformed: fake quantization, noise, logging."""

from collections.abc import Callable, Iterable

import jax.numpy as jnp
from jax import Array
from jax.lax import stop_gradient

from bn_from_scratch.backends.jax.layer import BatchNorm, Operands
from bn_from_scratch.spec import TINY

Four = tuple[Array, Array, Array, Array]  # gamma, beta, mean, var


class TransformedBatchNorm(BatchNorm, kw_only=True):
    """`transform(gamma, beta, mean, var)` returns the four that are used instead.

    The moving averages follow the statistics as they were.  `transformed` switches it
    on and off at any time: `layer.clone(transformed=False)` takes the same variables.
    With `straight_through` the gradient passes as if it changed nothing: rounding has
    none of its own.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> layer, X = bn.TransformedBatchNorm(3, transform=fake_quantize), jnp.ones([8, 3])
    >>> Y, _ = layer.init_with_output(jax.random.key(0), X, training=True)
    >>> Y.shape
    (8, 3)
    """

    variant = "transform"

    transform: Callable[[Array, Array, Array, Array], Iterable[Array]]
    straight_through: bool = False
    transformed: bool = True

    def operands(self, mean: Array, var: Array, training: bool) -> Operands:
        mean, var, gamma, beta = super().operands(mean, var, training)
        if self.transformed:
            given = gamma, beta, mean, var
            made = self.transform(*given)
            if self.straight_through:
                pairs = zip(given, made, strict=True)
                made = (v + stop_gradient(new - v) for v, new in pairs)
            gamma, beta, mean, var = made
        return mean, var, gamma, beta


def fake_quantize(
    gamma: Array, beta: Array, mean: Array, var: Array, bits: int = 8
) -> Four:
    """A transform: all four in `bits` bits, as integer arithmetic will have them."""
    gamma, beta, mean, var = (quantize(v, bits) for v in (gamma, beta, mean, var))
    return gamma, beta, mean, var


def quantize(v: Array, bits: int) -> Array:
    """v on a grid of 2^bits - 1 values around 0, its largest on the edge."""
    step = jnp.maximum(jnp.abs(v).max(), TINY) / (2 ** (bits - 1) - 1)  # (23)
    return step * jnp.round(v / step)  # (24)
