"""Model surgery in Gluon: find the batch norms of a model, and replace them."""

import copy
from collections.abc import Callable, Iterable
from typing import Any

import numpy
from mxnet.gluon import Block, Parameter
from mxnet.gluon.nn.basic_layers import _BatchNorm as Native

from bn_from_scratch.backends.mxnet.batch_norm import CHANNEL_AXIS
from bn_from_scratch.backends.mxnet.blocks import layers_of
from bn_from_scratch.backends.mxnet.builtin import NAMES
from bn_from_scratch.backends.mxnet.layer import BatchNorm
from bn_from_scratch.backends.mxnet.models import copying, refusals
from bn_from_scratch.backends.mxnet.models.refusals import others_of
from bn_from_scratch.surgery import known, proof
from bn_from_scratch.surgery.description import Description, chosen_by

PARAMETERS = "gamma", "beta"
STATISTICS = "moving_mean", "moving_var"
HOMES = Native.__module__, "mxnet.gluon.contrib"  # of every batch norm of Gluon
Norm = Native | BatchNorm


def batch_norms(model: Block) -> dict[str, Description]:
    """{path: Description} of every batch norm of a model, Gluon's own and ours.

    The path names the children on the way: "features.4.0.body.1"; the model's own is
    "".  `use_global_stats` is frozen="all", in which gamma and beta may be trainable.
    A BatchNormReLU is a batch norm: under `set_np` MXNet leaves its ReLU out.
    """
    return {path: describe(path, layer) for path, layer in norms_of(model).items()}


def norms_of(model: Block) -> dict[str, Norm]:
    """{path: layer} of every batch norm."""
    layers = layers_of(model).items()
    return {k: v for k, v in layers if isinstance(v, (Native, BatchNorm))}


def check_model(model: Block, done: str) -> None:
    """Raise ValueError for a model without batch norm, or with one that does more.

    done: what is to be done with each of them, "folded".
    """
    described = batch_norms(model)
    known.check_any(described, others_of(model))
    known.check_known(described, done)


def describe(path: str, layer: Norm) -> Description:
    """One batch norm in the spec's words."""
    state = state_of(layer)
    shape = state["moving_mean"].shape
    if isinstance(layer, Native):
        sizes = shape[0] if shape[0] > 0 else None, None
        theirs = layer._kwargs
        settings = {
            "eps": theirs["eps"],
            "momentum": round(1 - theirs["momentum"], 15),  # 0.1, not 0.0999...98
            "axis": theirs.get("axis", CHANNEL_AXIS),
            "correction": 0,
            "statistics": "moving",
            "frozen": "all" if theirs["use_global_stats"] else None,
        }
    else:
        sizes = layer.num_features, layer.num_dims
        names = "eps", "momentum", "axis", "correction", "statistics", "frozen"
        settings = {name: getattr(layer, name) for name in names}
    settings |= {"center": "beta" in state, "scale": "gamma" in state}
    settings["dtype"] = numpy.dtype(state["moving_mean"].dtype).name
    names = (*PARAMETERS, *STATISTICS)
    built = {k: state[k] for k in names if k in state and state[k]._data is not None}
    return Description(
        path or type(layer).__name__,
        type(layer).__name__,
        isinstance(layer, Native),
        *sizes,
        settings,
        {k: p.list_data()[0].asnumpy() for k, p in built.items()},
        {k: state[k].grad_req != "null" for k in PARAMETERS if k in state},
        known.peculiarity(layer, HOMES),
    )


def state_of(layer: Norm) -> dict[str, Parameter]:
    """The Parameters of a batch norm under our names, of those that have an effect.

    Gluon's own has a gamma without `scale`, which counts as 1, and a beta without
    `center`, which is added even so: 0, unless someone has set it.
    """
    native = isinstance(layer, Native)
    theirs = {v: k for k, v in NAMES.items()} if native else {}
    own: dict[str, Parameter] = layer._reg_params
    found = {theirs.get(k, k): p for k, p in own.items()}
    if native and layer._kwargs["fix_gamma"]:
        del found["gamma"]
    if native and not (layer.beta._differentiable or is_set(layer.beta)):
        del found["beta"]
    return found


def is_set(p: Parameter) -> bool:
    """Has someone given it another value than 0?"""
    return p._data is not None and bool(p.list_data()[0].any())


def replace_batch_norm(
    model: Block,
    make: Callable[..., Block],
    X: Any = None,
    modes: Iterable[str] = copying.MODES,
) -> Block:
    """A new model, with `make(num_features, num_dims, **settings)` for each batch norm.

    make: BatchNorm, partial(GhostBatchNorm, ghost_size=8), ... or `builtin`; what a
    `partial` sets, such as momentum=0.01, wins over what the old layer has.  State and
    `grad_req` are kept, and what a variant counts besides, if the new layer counts it.
    A layer that does more than a batch norm (a subclass with a forward of its own, one
    with hooks) raises ValueError.
    With an input X the outputs of both models are proven equal in these modes (in
    float64), or ValueError is raised.  A variant differs in training: leave that out.

    Our layers are plain Blocks.  A HybridBlock around one runs unhybridized from then
    on; its `hybridize()` goes to the children that can be.
    """
    known.check_any(norms_of(model), others_of(model))
    memo = copying.new_memo(model)
    for path, old in norms_of(model).items():
        memo[id(old)] = replacement(path, old, make, memo)
    changed = copying.copied(model, memo)
    if X is not None:
        prove(model, changed, X, modes)
    return changed


def prove(
    model: Block, changed: Block, X: Any, modes: Iterable[str]
) -> dict[str, float]:
    """Raise ValueError unless two models answer alike in these modes."""

    def answers(model: Any, in_float64: bool) -> proof.Answers:
        return copying.outputs(model, X, modes, in_float64)

    return proof.prove_same(answers, model, changed, copying.dtype_of(model))


def replacement(
    path: str, old: Norm, make: Callable[..., Block], memo: copying.Memo
) -> Any:
    """The new layer, with the copy of the old one's state."""
    described = describe(path, old)
    frozen = described.settings["frozen"]
    if frozen is None:
        del described.settings["frozen"]  # FrozenBatchNorm does not take it
    refusals.check_hooks(path, old, "replaced")
    new = described.make(make)
    known.check_replaced(described, known.peculiarity(new, HOMES))
    given = state_of(old)
    check_state(described, described.wanted(make)["statistics"], given, new)
    first = given["moving_mean"]
    if first._data is not None or first._deferred_init:
        new.initialize(ctx=first.list_ctx())
    for name, own in state_of(new).items():
        if name in given:
            p = copy.deepcopy(given[name], memo)
            if "dtype" in chosen_by(make)[1]:
                p.cast(own.dtype)
            put(new, NAMES.get(name, name) if isinstance(new, Native) else name, p)
            if getattr(new, "frozen", frozen) != frozen:  # `make` decides
                p.grad_req = own.grad_req
    return new


def check_state(
    described: Description, statistics: str, given: dict[str, Parameter], new: Any
) -> None:
    """Raise ValueError unless the new layer can have all the state of the old one.

    statistics: those by which the new layer predicts.
    """
    needed = PARAMETERS if statistics == "batch" else (*PARAMETERS, *STATISTICS)
    taken = state_of(new)
    for name in needed:
        if name in given and name not in taken:
            raise ValueError(
                f"{described.name} cannot be replaced: the new layer must keep its "
                f"{name}; {type(new).__name__} has {', '.join(taken) or 'no state'}"
            )


def put(block: Block, name: str, p: Parameter) -> None:
    """Give a block a Parameter in place of its own; Gluon refuses to exchange them."""
    own = block._reg_params.get(name)
    if own is not None:
        del block.params._params[own.name]
    block.params.update({p.name: p})
    block._reg_params[name] = vars(block)[name] = p
