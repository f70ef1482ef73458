"""The sizes that jax.export leaves open: symbols until the program runs."""

import jax.numpy as jnp
from jax import Array

from bn_from_scratch import spec
from bn_from_scratch.spec import Axis


def values_per_channel(X: Array, axis: Axis) -> int | Array:
    """The n of the equations, as an array where a size of X is a symbol."""
    n = spec.values_per_channel(X.shape, axis)
    return n if isinstance(n, int) else jnp.asarray(n)
