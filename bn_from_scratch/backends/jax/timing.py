"""Any norm layer of Flax, ready to be timed: forward, and forward with backward."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from bn_from_scratch.backends.jax.builtin import call


def prepare(
    layer: nn.Module, X: np.ndarray, dY: np.ndarray
) -> tuple[Callable[[], Any], Callable[[], None]]:
    """Two functions of nothing, for X and the cotangent dY, NumPy [N, C, *].

    `forward()` returns the output and whatever holds what backward needs; `step()` does
    one forward and one backward pass in training, and returns when both are done.
    """
    batch, cotangent = (jnp.asarray(np.moveaxis(v, 1, -1)) for v in (X, dY))
    variables = layer.init(
        jax.random.key(0), batch, method=lambda layer, X: call(layer, X, False)
    )
    params = variables.pop("params")

    def differentiate(params, stats, X):
        """-> Y, the function from dY to the gradients, the moved statistics."""

        def apply(params, X):
            return layer.apply(
                {"params": params, **stats},
                X,
                mutable=["batch_stats"],
                method=lambda layer, X: call(layer, X, True),
            )

        return jax.vjp(apply, params, X, has_aux=True)

    @jax.jit
    def both(params, stats, X, dY):
        Y, backward, moved = differentiate(params, stats, X)
        return Y, backward(dY), moved

    def forward():  # a jitted function would return a copy of X to be kept
        return jax.block_until_ready(differentiate(params, variables, batch))

    def step():
        jax.block_until_ready(both(params, variables, batch, cotangent))

    return forward, step
