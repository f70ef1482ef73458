"""Any norm layer of Gluon: NumPy in, NumPy out."""

from typing import Any

import numpy
from mxnet import autograd, np
from mxnet.gluon import Block, Parameter

from bn_from_scratch.backends.mxnet.builtin import NAMES


def probe(
    layer: Block,
    X: numpy.ndarray,
    dY: numpy.ndarray,
    *,
    training: bool,
    steps: int = 1,
    state: dict[str, numpy.ndarray] | None = None,
    native: bool = False,
    **options: Any,
) -> dict[str, numpy.ndarray]:
    """Feed X [N, C, *] and the cotangent dY forward and backward, `steps` times over.

    Returns NumPy arrays: Y, dX [N, C, *], dgamma, dbeta [C] of the last pass and the
    moving_mean, moving_var [C] it leaves, without those that the layer does not have.
    `state` (gamma, beta, moving_mean, moving_var, ...) is written into the layer first.
    X that is `native` has the layer's own layout already.  `options` (mask, update) are
    given to each call.
    """
    values = _state_of(layer)
    if all(p._data is None for p in values.values()):
        layer.initialize()
    for name, value in (state or {}).items():
        values[name].set_data(np.array(value, dtype=value.dtype))
    given, cotangent = (np.array(v, dtype=v.dtype) for v in (X, dY))
    if "mask" in options:
        options["mask"] = np.array(options["mask"])
    for _ in range(steps):
        given.attach_grad()
        with autograd.record(train_mode=training):
            Y = layer(given, **options)
        Y.backward(cotangent, train_mode=training)  # its own default is True
    result = {"Y": Y, "dX": given.grad}
    wanted = {k: values[k] for k in ("gamma", "beta") if k in values}
    wanted = {k: p for k, p in wanted.items() if p.grad_req != "null"}
    result |= {f"d{k}": p.grad() for k, p in wanted.items()}
    result |= {k: p.data() for k, p in values.items() if k not in ("gamma", "beta")}
    return {name: v.asnumpy() for name, v in result.items()}


def _state_of(layer: Block) -> dict[str, Parameter]:
    """The layer's parameters and statistics under our names."""
    theirs = {v: k for k, v in NAMES.items()}
    own: dict[str, Parameter] = layer._reg_params
    return {theirs.get(name, name): p for name, p in own.items()}
