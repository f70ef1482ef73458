"""Copy a Gluon model, with some blocks exchanged; run what was copied."""

import copy
import inspect
from collections.abc import Iterable
from types import MethodType
from typing import Any

import mxnet
import numpy
from mxnet import autograd, np
from mxnet.gluon import Block, HybridBlock, nn

from bn_from_scratch import checks
from bn_from_scratch.backends.mxnet.blocks import layers_of, parameters_of
from bn_from_scratch.surgery import proof, trees

MODES = "prediction", "training"
ERRORS = mxnet.MXNetError, TypeError  # of dtypes that do not fit
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


def outputs(
    model: Block, X: Any, modes: Iterable[str], in_float64: bool = True
) -> dict[str, Any]:
    """{mode: {place: array}}: what a model answers.  Training moves only a copy."""
    copy = exact if in_float64 else plain
    with proof.in_float64(in_float64, ERRORS):
        return {mode: run(copy(model, X), X, mode) for mode in modes}


def exact(model: Block, X: Any) -> Block:
    """A copy in float64: there, the same sums in another order show no difference."""
    model = plain(model, X)
    model.cast("float64")
    return model


def plain(model: Block, X: Any) -> Block:
    """A copy that has its sizes, and is not compiled: its hooks would not be called.

    MXNet draws in float32 alone: blocks that wait for their sizes take them before.
    """
    model = copied(model)
    for block in layers_of(model).values():
        block._active = False
    if any(p._deferred_init for p in parameters_of(model)):
        run(model, X)
    return model


def dtype_of(model: Block) -> str:
    """The least exact dtype of a model's parameters: "float32"."""
    dtypes = {numpy.dtype(p.dtype) for p in parameters_of(model)}
    floats = {v for v in dtypes if numpy.issubdtype(v, numpy.floating)}
    return max(floats, key=lambda v: numpy.finfo(v).eps, default=numpy.dtype("f4")).name


def run(model: Block, X: Any, mode: str = "prediction") -> dict[str, numpy.ndarray]:
    """What this very model answers; a random layer draws the same at every run.

    MXNet's generator cannot be put back: it goes on from a number drawn before.
    """
    checks.check_choice("mode", mode, MODES)
    afterwards = int(np.random.randint(2**31 - 1))
    mxnet.random.seed(0)
    try:
        with autograd.train_mode() if mode == "training" else autograd.predict_mode():
            return trees.flat(called(model, X), as_array)
    finally:
        mxnet.random.seed(afterwards)


def called(model: Block, X: Any) -> Any:
    """The answer to X: an input, a tuple of several, or a dict of named ones."""
    taken = inputs_of(model)
    args, kwargs = trees.arguments(X, taken)
    if kwargs:  # the call of a block takes none by name
        args = inspect.Signature(taken).bind(**kwargs).args
    return model(*trees.mapped(lambda v: as_input(v, model), args))


def inputs_of(model: Block) -> list[inspect.Parameter]:
    """What the call of a block takes; a HybridBlock's function takes more."""
    hybrid = getattr(model, "hybrid_forward", None)
    if type(model).forward is not HybridBlock.forward or hybrid is None:
        return list(inspect.signature(model.forward).parameters.values())
    _, *inputs = inspect.signature(hybrid).parameters.values()
    return [p for p in inputs if p.name not in model._reg_params]


def as_input(X: Any, model: Block) -> Any:
    """An array where the model is, and in its dtype unless it counts something."""
    kinds = mxnet.nd.NDArray, numpy.ndarray, numpy.generic, list, tuple
    if not isinstance(X, kinds):
        return X
    X = X.asnumpy() if isinstance(X, mxnet.nd.NDArray) else numpy.asarray(X)
    for p in parameters_of(model):
        dtype = p.dtype if numpy.issubdtype(X.dtype, numpy.floating) else X.dtype
        return np.array(X, dtype=dtype, ctx=p.list_ctx()[0])
    return np.array(X, dtype=X.dtype)


def as_array(v: Any) -> numpy.ndarray | None:
    """An array or a number as NumPy, in float64; None for what is none."""
    if isinstance(v, mxnet.nd.NDArray):
        return v.astype("float64").asnumpy()
    is_number = isinstance(v, (bool, int, float, numpy.ndarray, numpy.generic))
    return numpy.asarray(v) if is_number else None
