"""Statistics taken anew: the moving averages become those of a whole data set."""

import itertools
from collections.abc import Callable, Collection, Iterable
from typing import Any, overload

import jax
import numpy as np
from flax import linen as nn
from flax import nnx
from flax.traverse_util import flatten_dict, unflatten_dict
from flax.typing import VariableDict
from jax import Array

from bn_from_scratch.backends.jax.builtin import NAMES, call
from bn_from_scratch.backends.jax.models import exact, nnx_surgery, norms, rewiring
from bn_from_scratch.backends.jax.models.nnx_surgery import Module
from bn_from_scratch.backends.jax.models.surgery import batch_norms, check_model
from bn_from_scratch.surgery.reestimation import Inputs, Statistics, pooled

GIVEN = "given to batch norms"  # a collection of variables


@overload
def reestimate(model: Module, batches: Iterable[Any]) -> Module: ...


@overload
def reestimate(
    model: nn.Module, batches: Iterable[Any], variables: VariableDict
) -> dict[str, Any]: ...


def reestimate(
    model: Any, batches: Iterable[Any], variables: VariableDict | None = None
) -> Any:
    """Variables whose moving averages are the statistics of all values in `batches`; of
    an nnx module, a new module.

    batches: inputs of the module: arrays, tuples of several or dicts of named ones.
    Each batch norm normalizes them by the batch, as in training, and everything else
    predicts: a dropout drops nothing.  One that is frozen stays as it is.
    ValueError if there is no batch, or no batch norm that it reaches.
    (Ioffe and Szegedy 2015, algorithm 2, with (16) for the variance.)
    """
    if isinstance(model, nnx.Module):
        return reestimate_nnx(model, batches)
    variables = rewiring.given(variables)
    flat: dict[Any, Any] = flatten_dict(variables)
    for path, values in pooled_statistics(model, batches, variables).items():
        for name, v in values.items():
            layer = "batch_stats", *path.split(".")
            place = (*layer, name) if (*layer, name) in flat else (*layer, NAMES[name])
            flat[place] = v.astype(flat[place].dtype)
    return unflatten_dict(flat)


def pooled_statistics(
    model: nn.Module, batches: Iterable[Any], variables: VariableDict
) -> dict[str, Statistics]:
    """{path: {"moving_mean", "moving_var"}}: what `reestimate` writes."""
    batches = iter(batches)
    for X in batches:  # the first: it is traced, to find the layers
        described = check_model(model, "re-estimated", X, variables)
        every = itertools.chain([X], batches)
        return pooled(map(Compiled(model, variables), every), described)
    return pooled([], {})


class Compiled:
    """`inputs_of_norms` of a linen module, compiled for each kind of X.

    What is no array in X, such as a flag, is part of its kind.
    """

    def __init__(self, model: nn.Module, variables: VariableDict) -> None:
        self.model: nn.Module = model
        self.variables: VariableDict = variables
        self.functions: dict[Any, Callable[..., Any]] = {}

    def __call__(self, X: Any) -> Inputs:
        arrays, rest = rewiring.packed(X)
        if rest not in self.functions:

            def inputs_of(arrays, variables):
                X = rewiring.unpacked(arrays, rest)
                return recorded(self.model, X, variables)[0]

            self.functions[rest] = jax.jit(inputs_of)
        found = self.functions[rest](arrays, self.variables)
        return jax.tree.map(np.asarray, found)


def inputs_of_norms(
    model: nn.Module | nnx.Module, X: Any, variables: VariableDict | None = None
) -> Inputs:
    """{path: [what each batch norm is given]} while all of them take the batch's."""
    if isinstance(model, nnx.Module):
        return recorded_nnx(model, X)[0]
    found, _ = recorded(model, X, rewiring.given(variables))
    return jax.tree.map(np.asarray, found)


def run_in_training(
    model: nn.Module | nnx.Module,
    X: Any,
    paths: Collection[str] | None = None,
    variables: VariableDict | None = None,
) -> tuple[Inputs, dict[str, np.ndarray]]:
    """A prediction in which these batch norms take the batch's statistics, or all.

    Returns {path: [what each of them is given]} and what the module answers.
    """
    if isinstance(model, nnx.Module):
        found, Y = recorded_nnx(model, X, paths)
    else:
        found, Y = recorded(model, X, rewiring.given(variables), paths)
    return jax.tree.map(np.asarray, found), exact.arrays(Y)


def recorded(
    model: nn.Module,
    X: Any,
    variables: VariableDict,
    paths: Collection[str] | None = None,
) -> tuple[dict[str, list[Array]], Any]:
    """`run_in_training` of a linen module, as arrays of JAX, so that it compiles.

    What a batch norm is given leaves as a variable, beside those of the module: within
    `nn.remat` an array is of use in there alone.
    """
    order: dict[tuple[str, ...], None] = {}

    def answer(layer, args, kwargs):
        if not isinstance(layer, norms.NORMS):
            return None
        X, _, options = norms.call_of(layer, args, kwargs)
        options = {k: v for k, v in options.items() if v is not None}
        moves = getattr(layer, "frozen", None) != "all"
        training = moves and (paths is None or ".".join(layer.path) in paths)
        if training:
            order[layer.path] = None
            check_sown(layer, layer.sow(GIVEN, "X", X))
        mode: Any = {"use_running_average": None} if norms.is_native(layer) else {}
        again = layer.clone(parent=layer.scope, **mode)
        return call(again, X, training=training, **options)

    args, kwargs = rewiring.arguments(model, X, training=False)
    rewired = rewiring.rewired(model, answer)
    Y, moved = rewired.apply(variables, *args, mutable=True, **kwargs)
    given: Any = flatten_dict(moved.get(GIVEN, {}))
    return {".".join(path): list(given[*path, "X"]) for path in order}, Y


def check_sown(layer: nn.Module, sown: bool) -> None:
    """Raise ValueError if what a layer is given cannot be seen from outside."""
    if not sown:
        raise ValueError(
            f"{'.'.join(layer.path)} must let out what it is given; the transformation "
            f"that it lies in has no {GIVEN!r} among its variables"
        )


# --- nnx -----------------------------------------------------------------------------


class Given(nnx.Variable[Any]):
    """What a batch norm was given."""


class Recorder(nnx.Module):
    """A batch norm that takes the batch's statistics, and keeps what it was given."""

    def __init__(self, layer: nnx.Module, path: str) -> None:
        self.layer: nnx.Module = layer
        self.path: str = path

    def __call__(
        self, x: Any, use_running_average: bool | None = None, **options: Any
    ) -> Any:
        setattr(self, f"given_{len(given_to(self))}", Given(x))
        return self.layer(x, use_running_average=False, **options)


def reestimate_nnx(model: Module, batches: Iterable[Any]) -> Module:
    """`reestimate` of an nnx module, which has its statistics in it."""
    described = check_model(model, "re-estimated")
    inputs = (inputs_of_norms(model, X) for X in batches)
    found, model = pooled(inputs, described), nnx.clone(model)
    for path, layer in nnx.iter_graph(model):
        path = nnx_surgery.dotted(path)
        names = NAMES if isinstance(layer, nnx.BatchNorm) else {}
        for name, v in found.get(path, {}).items():
            kept = getattr(layer, names.get(name, name))
            kept[...] = v.astype(kept.dtype)
    return model


def recorded_nnx(
    model: nnx.Module, X: Any, paths: Collection[str] | None = None
) -> tuple[Inputs, Any]:
    """`run_in_training` of an nnx module, with the answer as it comes."""
    recorders, described = [], batch_norms(model)

    def exchange(path, layer):
        path = nnx_surgery.dotted(path)
        fixed = path not in described or described[path].settings["frozen"] == "all"
        if fixed or (paths is not None and path not in paths):
            return layer
        recorders.append(Recorder(layer, path))
        return recorders[-1]

    Y = nnx_surgery.run(nnx_surgery.exchanged(model, exchange), X)
    found = {recorder.path: given_to(recorder) for recorder in recorders}
    return {path: inputs for path, inputs in found.items() if inputs}, Y


def given_to(recorder: nnx.Module) -> list[Any]:
    """What a recorder was given, in order: variables leave `nnx.remat` with it."""
    return [v[...] for v in vars(recorder).values() if isinstance(v, Given)]
