"""Copy a Gluon model, with some blocks exchanged; run what was copied."""

import copy
from collections.abc import Iterable
from types import MethodType
from typing import Any

import mxnet
import numpy
from mxnet import autograd, np
from mxnet.gluon import Block, HybridBlock, nn
from mxnet.numpy import ndarray

from bn_from_scratch import checks
from bn_from_scratch.backends.mxnet.blocks import layers_of, parameters_of

MODES = "prediction", "training"
Memo = dict[int, Any]  # {id(object): what stands for it in the copy}


def new_memo(model: Block) -> Memo:
    """The memo for `copy.deepcopy`.

    A compiled graph cannot be copied, and a Trainer goes on with the old parameters; a
    block remembers the one in whose scope it was made, which may lie outside.
    """
    layers = list(layers_of(model).values())
    scopes = (getattr(v._scope, "_old_scope", None) for v in layers)
    held: list[Any] = [v for v in scopes if v and v._block not in layers]
    held += [getattr(v, "_cached_op", None) for v in layers]
    held += [p._trainer for p in parameters_of(model)]
    return {id(v): None for v in held}


def copied(model: Block, memo: Memo | None = None) -> Block:
    """A copy that can be trained, and hybridized as far as its blocks can be.

    A deep copy alone has gradients that no recording reaches.
    """
    memo = new_memo(model) if memo is None else memo
    model = copy.deepcopy(model, memo)
    for block in layers_of(model).values():
        if isinstance(block, HybridBlock):
            hybridize_what_can_be(block)
    for p in parameters_of(model):
        if p._data is not None and p.grad_req != "null":
            p._init_grad()
    return model


def hybridize_what_can_be(block: HybridBlock) -> None:
    """A HybridBlock that contains a plain Block stays plain, and hybridizes the rest.

    Gluon refuses to add such a child, and a symbol has no shape that it could check.
    """
    block._clear_cached_op()
    vars(block).pop("hybridize", None)
    if not all(isinstance(v, HybridBlock) for v in layers_of(block).values()):
        block._active = False
        block.hybridize = MethodType(nn.Block.hybridize, block)


def outputs(model: Block, X: Any, modes: Iterable[str]) -> dict[str, Any]:
    """{mode: arrays}: what a model answers.  Training moves only a copy."""
    return {mode: run(exact(model, X), X, mode) for mode in modes}


def exact(model: Block, X: Any) -> Block:
    """A copy in float64: there, the same sums in another order show no difference.

    MXNet draws in float32 alone: blocks that wait for their sizes take them before.
    """
    model = copied(model)
    for block in layers_of(model).values():
        block._active = False  # the hooks of compiled blocks are not called
    if any(p._deferred_init for p in parameters_of(model)):
        run(model, X)
    model.cast("float64")
    return model


def run(model: Block, X: Any, mode: str = "prediction") -> Any:
    """What this very model answers; a random layer draws the same at every run.

    MXNet's generator cannot be put back: it goes on from a number drawn before.
    """
    checks.check_choice("mode", mode, MODES)
    afterwards = int(np.random.randint(2**31 - 1))
    mxnet.random.seed(0)
    try:
        with autograd.train_mode() if mode == "training" else autograd.predict_mode():
            return arrays(model(as_input(X, model)))
    finally:
        mxnet.random.seed(afterwards)


def as_input(X: Any, model: Block) -> ndarray:
    """X where the model is, and in its dtype unless it counts something."""
    X = X.asnumpy() if isinstance(X, mxnet.nd.NDArray) else numpy.asarray(X)
    for p in parameters_of(model):
        dtype = p.dtype if numpy.issubdtype(X.dtype, numpy.floating) else X.dtype
        return np.array(X, dtype=dtype, ctx=p.list_ctx()[0])
    return np.array(X, dtype=X.dtype)


def arrays(output: Any) -> Any:
    """An array as NumPy; several, in a dict, tuple or list, as a dict of such."""
    if isinstance(output, (tuple, list)):
        output = dict(enumerate(output))
    if isinstance(output, dict):
        return {name: arrays(v) for name, v in output.items()}
    return output.astype("float64").asnumpy()
