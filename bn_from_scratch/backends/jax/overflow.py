"""Statistics that overflow: refused where Python may look at them, NaN elsewhere."""

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
from jax.lax import stop_gradient

from bn_from_scratch import checks


def in_range(X: Array, var: Array) -> Array:
    """var [C], if it fits its dtype.  Else ValueError, or NaN where none can be raised.

    X that holds NaN or infinity passes: its statistics are NaN, as everywhere.
    """
    given, value = stop_gradient((X, var))
    if isinstance(value, Tracer) or not value.is_fully_addressable:
        return or_nan(var)
    if not np.isfinite(value).all() and np.isfinite(given).all():
        checks.refuse_overflow(var.dtype.name, float(abs(given).max()))
    return var


def or_nan(var: Array) -> Array:
    """var, with NaN for what overflowed: X by an infinite variance would be 0."""
    return jnp.where(jnp.isfinite(var), var, jnp.nan)
