"""Any batch norm layer of Flax: NumPy in, NumPy out."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from bn_from_scratch.backends.jax.builtin import NAMES, call


def probe(layer, X, dY, *, training, steps=1, state=None):
    """Feed X [N, C, *] and the cotangent dY forward and backward, `steps` times over.

    Returns NumPy arrays: Y, dX [N, C, *], dgamma, dbeta [C] of the last pass and the
    moving_mean, moving_var [C] it leaves.  `state` (gamma, beta, moving_mean,
    moving_var) is written into the layer first.
    """
    X, dY = (jnp.asarray(np.moveaxis(v, 1, -1)) for v in (X, dY))
    variables = layer.init(
        jax.random.key(0), X, method=lambda layer, X: call(layer, X, False)
    )
    ours = "gamma" in variables["params"]
    names = {name: name if ours else NAMES[name] for name in NAMES}
    gamma, beta, mean, var = names.values()
    kinds = {"params": (gamma, beta), "batch_stats": (mean, var)}
    theirs = {names[name]: jnp.asarray(value) for name, value in (state or {}).items()}
    variables = {
        kind: variables[kind] | {k: theirs[k] for k in keys if k in theirs}
        for kind, keys in kinds.items()
    }

    def forward(X, params, stats):
        return layer.apply(
            {"params": params, "batch_stats": stats},
            X,
            mutable=["batch_stats"],
            method=lambda layer, X: call(layer, X, training),
        )

    params, stats = variables["params"], variables["batch_stats"]
    for _ in range(steps):
        Y, backward, moved = jax.vjp(
            partial(forward, stats=stats), X, params, has_aux=True
        )
        dX, dparams = backward(dY)
        stats = moved["batch_stats"]
    result = {"Y": np.moveaxis(Y, -1, 1), "dX": np.moveaxis(dX, -1, 1)}
    result |= {"dgamma": dparams[gamma], "dbeta": dparams[beta]}
    result |= {"moving_mean": stats[mean], "moving_var": stats[var]}
    return {name: np.array(v) for name, v in result.items()}
