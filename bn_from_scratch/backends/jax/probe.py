"""Any norm layer of Flax: NumPy in, NumPy out."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.typing import VariableDict

from bn_from_scratch.backends.jax.builtin import NAMES, call


def probe(
    layer: nn.Module,
    X: np.ndarray,
    dY: np.ndarray,
    *,
    training: bool,
    steps: int = 1,
    state: Mapping[str, np.ndarray] | None = None,
    native: bool = False,
    **options: Any,
) -> dict[str, np.ndarray]:
    """Feed X [N, C, *] and the cotangent dY forward and backward, `steps` times over.

    Returns NumPy arrays: Y, dX [N, C, *], dgamma, dbeta [C] of the last pass and the
    moving_mean, moving_var [C] it leaves, without those that the layer does not have.
    `state` (gamma, beta, moving_mean, moving_var, ...) is written into the layer first.
    X that is `native` has the layer's own layout already.  `options` (mask, update) are
    given to each call.
    """
    C = 1 if native else -1
    batch, cotangent = (jnp.asarray(np.moveaxis(v, 1, C)) for v in (X, dY))
    if "mask" in options:
        options["mask"] = jnp.asarray(options["mask"])
    predict = partial(call, training=False)
    variables: Any = layer.init(jax.random.key(0), batch, method=predict)
    places = _state_of(variables)
    for name, value in (state or {}).items():
        kind, own = places[name]
        variables[kind][own] = jnp.asarray(value)
    params, stats = variables.get("params", {}), variables.get("batch_stats", {})

    def forward(X, params, stats, key) -> Any:
        return layer.apply(
            {"params": params, "batch_stats": stats},
            X,
            mutable=["batch_stats"],
            method=partial(call, training=training, **options),
            rngs={"adjustment": key},
        )

    for step in range(steps):
        now = partial(forward, stats=stats, key=jax.random.key(step))
        Y, backward, moved = jax.vjp(now, batch, params, has_aux=True)
        dX, dparams = backward(cotangent)
        stats = moved.get("batch_stats", {})
    result = {name: np.moveaxis(v, C, 1) for name, v in {"Y": Y, "dX": dX}.items()}
    for name, (kind, own) in places.items():
        if kind == "params":
            result[f"d{name}"] = dparams[own]
        else:
            result[name] = stats[own]
    return {name: np.array(v) for name, v in result.items()}


def _state_of(variables: VariableDict) -> dict[str, tuple[str, str]]:
    """Where our parameters and statistics are: {"gamma": ("params", "scale"), ...}."""
    theirs = {v: k for k, v in NAMES.items()}
    return {
        theirs.get(own, own): (kind, own)
        for kind, values in variables.items()
        for own in values
    }
