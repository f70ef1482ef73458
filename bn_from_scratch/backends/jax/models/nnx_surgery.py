"""Model surgery in Flax's nnx: its layers can be listed, and exchanged on a copy."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import nnx
from flax.typing import VariableDict

from bn_from_scratch import checks, spec
from bn_from_scratch.backends.jax.builtin import NAMES
from bn_from_scratch.backends.jax.models import exact, norms, rewiring
from bn_from_scratch.spec import Axis
from bn_from_scratch.surgery import known, paths, proof
from bn_from_scratch.surgery.description import Description, chosen_by

KINDS: dict[str, type[nnx.Variable[Any]]] = {
    "params": nnx.Param,
    "batch_stats": nnx.BatchStat,
}


class Adapter(nnx.Module):
    """One of our layers, which are linen modules, as an nnx module.

    It holds the variables and has the mode, `use_running_average`, of `train()` and
    `eval()`.  `dtype` is that of the answer, None for X promoted with the parameters.
    """

    def __init__(
        self,
        layer: nn.Module,
        variables: VariableDict,
        use_running_average: bool = False,
        dtype: Any = None,
    ) -> None:
        self.layer: nn.Module = layer
        self.dtype: Any = dtype
        self.use_running_average: bool = use_running_average
        write(self, variables)

    def __call__(
        self, x: Any, use_running_average: bool | None = None, *, mask: Any = None
    ) -> Any:
        if use_running_average is None:
            use_running_average = self.use_running_average
        variables = variables_of(self)
        used = jax.tree.leaves(variables)
        dtype = jnp.result_type(x, *used) if self.dtype is None else self.dtype
        Y, moved = self.layer.apply(
            variables,
            x.astype(dtype),
            training=not use_running_average,
            mask=mask,
            mutable=["batch_stats"],
        )
        if not use_running_average:
            for name, v in moved["batch_stats"].items():
                getattr(self, name)[...] = v
        return Y


NORMS = (nnx.BatchNorm, Adapter)
STATISTICS = ("moving_mean", "moving_var"), (NAMES["moving_mean"], NAMES["moving_var"])
Module = TypeVar("Module", bound=nnx.Module)


def variables_of(layer: nnx.Module) -> dict[str, dict[str, Any]]:
    """{"params": {...}, "batch_stats": {...}} of an nnx layer, in its words."""
    values = vars(layer).items()
    return {
        word: {name: v[...] for name, v in values if isinstance(v, kind)}
        for word, kind in KINDS.items()
    }


def write(layer: nnx.Module, variables: VariableDict) -> None:
    """The inverse of `variables_of`."""
    for word, values in variables.items():
        for name, v in values.items():
            setattr(layer, name, KINDS[word](v))


def batch_norms(model: nnx.Module) -> dict[str, Description]:
    """{path: Description} of every batch norm of an nnx module."""
    layers = [(path, v) for path, v in nnx.iter_graph(model) if isinstance(v, NORMS)]
    paths.unique((dotted(path), layer) for path, layer in layers)
    return {dotted(path): describe(path, layer) for path, layer in layers}


def others_of(model: nnx.Module, pairs: Iterable[Iterable[str]]) -> dict[str, str]:
    """{path: class} of layers that have both names of a pair, but are no batch norm."""
    return {
        dotted(path): type(layer).__name__
        for path, layer in nnx.iter_graph(model)
        if isinstance(layer, nnx.Module)
        and not isinstance(layer, NORMS)
        and any({*pair} <= vars(layer).keys() for pair in pairs)
    }


def dotted(path: Iterable[Any]) -> str:
    return ".".join(map(str, path))


def describe(path: Iterable[Any], layer: nnx.BatchNorm | Adapter) -> Description:
    """One batch norm in the spec's words."""
    state = norms.state_of(variables_of(layer))
    if isinstance(layer, Adapter):
        own = layer.layer
        shape = shape_for(own.num_features, own.axis)
        return norms.describe(dotted(path), own, shape, state)
    settings = norms.native_settings(layer)
    trainable = {name: True for name in ("gamma", "beta") if name in state}
    state = {name: np.array(v) for name, v in state.items()}
    sizes = layer.num_features, None
    kind, own = type(layer).__name__, norms.peculiarity(layer)
    path = dotted(path)
    return Description(path, kind, True, *sizes, settings, state, trainable, own)


def shape_for(num_features: Any, axis: Axis) -> tuple[int, ...]:
    """The shape of some X that a layer takes.  5, -1 -> (1, 5)"""
    axes = checks.tuple_of(axis)
    ndim = max(2, max(-1, *axes) + 1 - min(0, *axes))
    shape = [1] * ndim
    kept = spec.kept_axes(ndim, axis)
    for a, size in zip(kept, checks.tuple_of(num_features), strict=True):
        shape[a] = size
    return tuple(shape)


def replace_batch_norm(
    model: nnx.Module,
    make: Callable[..., nn.Module],
    X: Any = None,
    modes: Sequence[str] = ("prediction", "training"),
) -> nnx.Module:
    """A new nnx module, in which `make(num_features, num_dims, **settings)` stands for
    each batch norm, wherever it is an attribute or an item."""
    known.check_any(batch_norms(model), others_of(model, STATISTICS))

    def exchange(path, layer):
        return replacement(path, layer, make) if isinstance(layer, NORMS) else layer

    new = exchanged(model, exchange)
    if X is not None:
        prove(model, new, X, modes)
    return new


def prove(
    old: nnx.Module, new: nnx.Module, X: Any, modes: Sequence[str]
) -> dict[str, float]:
    """Raise ValueError unless two modules answer alike in these modes."""

    def answers(model: nnx.Module, in_float64: bool) -> proof.Answers:
        return outputs(model, X, modes, in_float64)

    return proof.prove_same(answers, old, new, exact.dtype_of(nnx.state(old)))


def exchanged(model: Any, exchange: Callable[[tuple[Any, ...], Any], Any]) -> Any:
    """A clone in which `exchange(path, layer)` stands for each layer, wherever it is an
    attribute or an item; for one that is shared it is called once.

    `nnx.recursive_map` does that too, in later releases of Flax than those that run on
    NumPy 1.
    """
    copy = nnx.clone(model)
    nodes = [item for item in nnx.iter_graph(copy) if isinstance(item[1], nnx.Pytree)]
    layers = [item for item in nodes if isinstance(item[1], nnx.Module)]
    made = {id(layer): exchange(path, layer) for path, layer in layers}

    def new(child):
        if isinstance(child, (list, tuple, dict)):
            return jax.tree.map(new, child, is_leaf=lambda v: isinstance(v, nnx.Module))
        return made.get(id(child), child)

    for _, node in nodes:
        for name, child in vars(node).items():
            vars(node)[name] = new(child)
    return made[id(copy)]


def replacement(
    path: Iterable[Any],
    layer: nnx.BatchNorm | Adapter,
    make: Callable[..., nn.Module],
) -> nnx.Module:
    """The new layer, with the state of the old one."""
    described = describe(path, layer)
    new = norms.replacement(described, make, **norms.replicas_of(layer))
    shape = shape_for(described.num_features, described.settings["axis"])
    needed, dtype = described.needed(make), chosen_by(make)[1].get("dtype")
    own = variables_of(layer)
    variables = norms.moved(described.name, own, new, shape, needed, dtype)
    mode: Any = {"use_running_average": layer.use_running_average, "dtype": layer.dtype}
    if not norms.is_native(new):
        return Adapter(new, variables, **mode)
    names = "axis", "momentum", "epsilon", "param_dtype", "use_bias", "use_scale"
    names += "axis_name", "axis_index_groups", "use_fast_variance"
    settings = {name: getattr(new, name) for name in names} | mode
    settings["num_features"] = described.num_features
    made = nnx.BatchNorm(**settings, rngs=nnx.Rngs(0))
    write(made, variables)
    return made


def outputs(
    model: nnx.Module, X: Any, modes: Sequence[str], in_float64: bool = True
) -> dict[str, dict[str, np.ndarray]]:
    """{mode: {place: array}}: what copies of an nnx module answer."""
    with proof.in_float64(in_float64, exact.ERRORS), exact.arithmetic(in_float64):
        X = exact.widened(X) if in_float64 else X
        copy = exact.module if in_float64 else nnx.clone
        answers = {m: run(copy(model), X, m == "training") for m in modes}
        return {mode: exact.arrays(Y) for mode, Y in answers.items()}


def run(model: Any, X: Any, training: bool = False) -> Any:
    """What an nnx module answers; X is an input, a tuple of several or a dict."""
    model.train() if training else model.eval()
    args, kwargs = rewiring.arguments(model, X, training)
    return model(*args, **kwargs)
