"""Model surgery in Flax: find the batch norms of a model, and replace them."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, overload

from flax import linen as nn
from flax import nnx
from flax.traverse_util import flatten_dict, unflatten_dict
from flax.typing import VariableDict

from bn_from_scratch.backends.jax.models import exact, nnx_surgery, norms, rewiring
from bn_from_scratch.backends.jax.models.nnx_surgery import Module
from bn_from_scratch.surgery import known, paths, proof
from bn_from_scratch.surgery.description import Description, chosen_by

Bound = tuple[nn.Module, VariableDict]  # a module and its variables
Found = dict[tuple[str, ...], tuple[nn.Module, Description, tuple[int, ...]]]


def batch_norms(
    model: nn.Module | nnx.Module, X: Any = None, variables: VariableDict | None = None
) -> dict[str, Description]:
    """{path: Description} of every batch norm of a module, Flax's own and ours.

    The path names the modules that the layer lies in: "block1.bn1".  A linen module has
    no list of its layers and no variables: it is traced on X, and its state is that of
    `variables`.  An nnx module needs neither.
    """
    if isinstance(model, nnx.Module):
        return nnx_surgery.batch_norms(model)
    return {
        ".".join(path): d for path, (_, d, _) in traced(model, X, variables).items()
    }


def traced(model: nn.Module, X: Any, variables: VariableDict | None) -> Found:
    """{path: (layer, Description, shape of its X)} of a linen module."""
    if X is None:
        raise ValueError("a linen module must be traced to find its layers; X is None")
    found = {}

    def note(layer, args, kwargs, Y):
        if isinstance(layer, norms.NORMS):
            shape = norms.call_of(layer, args, kwargs)[0].shape
            own = norms.variables_of(variables or {}, layer.path)
            path, state = ".".join(layer.path), norms.state_of(own)
            described = norms.describe(path, layer, shape, state)
            found.setdefault(layer.path, (layer.clone(parent=None), described, shape))

    rewiring.trace(model, variables, X, note)
    paths.unique((".".join(path), layer) for path, (layer, *_) in found.items())
    return found


def others_of(
    model: nn.Module | nnx.Module, X: Any = None, variables: VariableDict | None = None
) -> dict[str, str]:
    """{path: class} of layers that keep moving statistics, but are of no known kind."""
    pairs, found = nnx_surgery.STATISTICS, {}
    if isinstance(model, nnx.Module):
        return nnx_surgery.others_of(model, pairs)

    def note(layer, args, kwargs, Y):
        own = norms.variables_of(variables or {}, layer.path)["batch_stats"]
        if not isinstance(layer, norms.NORMS) and any(
            {*p} <= own.keys() for p in pairs
        ):
            found[".".join(layer.path)] = type(layer).__name__

    rewiring.trace(model, variables, X, note)
    return found


def check_model(
    model: nn.Module | nnx.Module,
    done: str,
    X: Any = None,
    variables: VariableDict | None = None,
) -> dict[str, Description]:
    """The batch norms of a model; ValueError if there is none, or one that does more.

    done: what is to be done with each of them, "folded".
    """
    described = batch_norms(model, X, variables)
    if not described:
        known.check_any(described, others_of(model, X, variables))
    known.check_known(described, done)
    return described


@overload
def replace_batch_norm(
    model: Module,
    make: Callable[..., nn.Module],
    X: Any = None,
    modes: Sequence[str] = ...,
) -> Module: ...


@overload
def replace_batch_norm(
    model: nn.Module,
    make: Callable[..., nn.Module],
    X: Any = None,
    modes: Sequence[str] = ...,
    variables: VariableDict | None = None,
) -> tuple[nn.Module, dict[str, Any] | None]: ...


def replace_batch_norm(
    model: Any,
    make: Callable[..., nn.Module],
    X: Any = None,
    modes: Sequence[str] = ("prediction", "training"),
    variables: VariableDict | None = None,
) -> Any:
    """A new module and its variables, with `make(num_features, num_dims, **settings)`
    for each batch norm; of an nnx module, the new module alone.

    make: BatchNorm, partial(GhostBatchNorm, ghost_size=8), ... or `builtin`; what a
    `partial` sets, such as momentum=0.01, wins over what the old layer has.  It is
    given all settings, initializers too.  A layer that does more than a batch norm (a
    subclass with a `__call__` of its own) raises ValueError.  The new linen module
    wraps the old one and takes the variables at the same paths, under the new layer's
    names; `init` works.
    X, an array or a tuple of inputs, is needed for `variables`, or to prove that the
    outputs are equal in these modes (in float64); ValueError if they are not.  A
    variant differs in training: leave that out.
    """
    if isinstance(model, nnx.Module):
        return nnx_surgery.replace_batch_norm(model, make, X, modes)
    new = rewiring.rewired(model, partial(answer, make))
    if X is None:
        if variables is not None:
            raise ValueError("variables are found by tracing the module; X is None")
        return new, None
    found = traced(model, X, variables)
    if not found:
        known.check_any({}, others_of(model, X, variables))
    given = variables
    if given is None:
        _, given = rewiring.run(model, None, X)
    written = replaced(given, found, make)
    prove((model, given), (new, written), X, modes)
    return new, None if variables is None else written


def prove(old: Bound, new: Bound, X: Any, modes: Sequence[str]) -> dict[str, float]:
    """Raise ValueError unless two modules answer alike in these modes."""

    def answers(bound: Bound, in_float64: bool) -> proof.Answers:
        return rewiring.outputs(*bound, X, modes, in_float64)

    return proof.prove_same(answers, old, new, exact.dtype_of(old[1]))


def answer(
    make: Callable[..., nn.Module],
    layer: nn.Module,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:
    """What the layer that `make` gives answers in the place of a batch norm."""
    if not isinstance(layer, norms.NORMS):
        return None
    shape = norms.call_of(layer, args, kwargs)[0].shape
    described = norms.describe(".".join(layer.path), layer, shape, {})
    new = new_layer(described, layer, make).clone(parent=layer.scope)
    return norms.answer_as(new, layer, args, kwargs)


def new_layer(
    described: Description, layer: nn.Module, make: Callable[..., nn.Module]
) -> nn.Module:
    """What `make` gives for a linen layer, outside of any module."""
    others = norms.initializers_of(layer) | norms.replicas_of(layer)
    return norms.replacement(described, make, **others)


def replaced(
    variables: VariableDict, found: Found, make: Callable[..., nn.Module]
) -> dict[str, Any]:
    """The variables under the names that the new layers read."""
    flat: dict[Any, Any] = flatten_dict(variables)
    for path, (layer, described, shape) in found.items():
        own = norms.variables_of(variables, path)
        new = new_layer(described, layer, make)
        for kind, values in own.items():
            for name in values:
                del flat[kind, *path, name]
        needed, dtype = described.needed(make), chosen_by(make)[1].get("dtype")
        moved = norms.moved(described.name, own, new, shape, needed, dtype)
        for kind, values in moved.items():
            flat |= {(kind, *path, name): v for name, v in values.items()}
    return unflatten_dict(flat)
