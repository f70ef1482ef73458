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
from bn_from_scratch.backends.jax.models import nnx_surgery, norms, rewiring
from bn_from_scratch.backends.jax.models.nnx_surgery import Module
from bn_from_scratch.backends.jax.models.surgery import batch_norms
from bn_from_scratch.surgery.reestimation import Inputs, Statistics, pooled

Answer = tuple[Inputs, Any]  # what the batch norms are given, what the model answers


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

    batches: inputs of the module.  Each batch norm normalizes them by the batch, as in
    training, and everything else predicts: a dropout drops nothing.  One that is frozen
    stays as it is.  (Ioffe and Szegedy 2015, algorithm 2, with (16) for the variance.)
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
    first, batches = itertools.tee(batches)
    described = batch_norms(model, next(first), variables)
    inputs_of = jax.jit(lambda X, variables: traced(model, X, variables)[0])
    inputs = (jax.tree.map(np.asarray, inputs_of(X, variables)) for X in batches)
    return pooled(inputs, described)


def inputs_of_norms(
    model: nn.Module | nnx.Module, X: Any, variables: VariableDict | None = None
) -> Inputs:
    """{path: [what each batch norm is given]} while all of them take the batch's."""
    return run_in_training(model, X, variables=variables)[0]


def run_in_training(
    model: nn.Module | nnx.Module,
    X: Any,
    paths: Collection[str] | None = None,
    variables: VariableDict | None = None,
) -> Answer:
    """A prediction in which these batch norms take the batch's statistics, or all.

    Returns {path: [what each of them is given]} and what the module answers.
    """
    if isinstance(model, nnx.Module):
        return run_nnx(model, X, paths)
    found = traced(model, X, rewiring.given(variables), paths)
    return jax.tree.map(np.asarray, found)


def traced(
    model: nn.Module,
    X: Any,
    variables: VariableDict,
    paths: Collection[str] | None = None,
) -> tuple[dict[str, list[Array]], Any]:
    """`run_in_training` of a linen module, as arrays of JAX, so that it compiles."""
    found = {}

    def answer(layer, args, kwargs):
        if not isinstance(layer, norms.NORMS):
            return None
        X, _, options = norms.call_of(layer, args, kwargs)
        options = {k: v for k, v in options.items() if v is not None}
        path = ".".join(layer.path)
        moves = getattr(layer, "frozen", None) != "all"
        training = moves and (paths is None or path in paths)
        if training:
            found.setdefault(path, []).append(X)
        mode: Any = {"use_running_average": None} if norms.is_native(layer) else {}
        again = layer.clone(parent=layer.scope, **mode)
        return call(again, X, training=training, **options)

    inputs, mode = X if isinstance(X, tuple) else (X,), rewiring.mode_of(model, False)
    rewired = rewiring.rewired(model, answer)
    return found, rewired.apply(variables, *inputs, mutable=True, **mode)[0]


# --- nnx -----------------------------------------------------------------------------


class Recorder(nnx.Module):
    """A batch norm that takes the batch's statistics, with its inputs in a list."""

    def __init__(self, layer: nnx.Module, inputs: list[np.ndarray]) -> None:
        self.layer: nnx.Module = layer
        self.record: Callable[[np.ndarray], None] = inputs.append

    def __call__(
        self, x: Any, use_running_average: bool | None = None, **options: Any
    ) -> Any:
        self.record(np.asarray(x))
        return self.layer(x, use_running_average=False, **options)


def reestimate_nnx(model: Module, batches: Iterable[Any]) -> Module:
    """`reestimate` of an nnx module, which has its statistics in it."""
    described = batch_norms(model)
    inputs = (inputs_of_norms(model, X) for X in batches)
    found, model = pooled(inputs, described), nnx.clone(model)
    for path, layer in nnx.iter_graph(model):
        path = nnx_surgery.dotted(path)
        names = NAMES if isinstance(layer, nnx.BatchNorm) else {}
        for name, v in found.get(path, {}).items():
            kept = getattr(layer, names.get(name, name))
            kept[...] = v.astype(kept.dtype)
    return model


def run_nnx(model: nnx.Module, X: Any, paths: Collection[str] | None = None) -> Answer:
    """`run_in_training` of an nnx module."""
    found, described = {}, batch_norms(model)

    def exchange(path, layer):
        path = nnx_surgery.dotted(path)
        fixed = path not in described or described[path].settings["frozen"] == "all"
        if fixed or (paths is not None and path not in paths):
            return layer
        return Recorder(layer, found.setdefault(path, []))

    model = nnx_surgery.exchanged(model, exchange)
    model.eval()
    return found, jax.tree.map(np.asarray, model(X))
