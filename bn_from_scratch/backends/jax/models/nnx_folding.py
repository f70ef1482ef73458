"""Fold each batch norm of an nnx module into the linear layer before it."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import nnx

from bn_from_scratch.backends.jax.models import exact, nnx_surgery, norms
from bn_from_scratch.backends.jax.models.nnx_surgery import NORMS, Adapter, Module
from bn_from_scratch.backends.jax.models.tracing import (
    Call,
    Pair,
    Plan,
    check_axis,
    check_once,
    plan_of,
    refusal,
)
from bn_from_scratch.surgery import folding, known, proof

LINEAR = (nnx.Linear, nnx.Conv, nnx.ConvTranspose)
LINEAR_HOMES = (nnx.Linear.__module__,)


class Watched(nnx.Module):
    """A layer that notes its calls."""

    def __init__(
        self, layer: nnx.Module, path: tuple[str, ...], calls: list[Call]
    ) -> None:
        self.layer: nnx.Module = layer
        self.path: tuple[str, ...] = path
        self.note: Callable[[Call], None] = calls.append

    def __call__(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        Y = self.layer(x, *args, **kwargs)
        self.note(Call(self.path, self.layer, x, Y))
        return Y


class Passed(nnx.Module):
    """What stands for a batch norm that was folded."""

    def __call__(
        self, x: Any, use_running_average: bool | None = None, *, mask: Any = None
    ) -> Any:
        return x


def fold_batch_norm(model: nnx.Module, X: Any, partial: bool = False) -> Any:
    """A new module for prediction: `folding.fold_batch_norm` of an nnx module."""
    described = nnx_surgery.batch_norms(model)
    known.check_any(described, nnx_surgery.others_of(model, nnx_surgery.STATISTICS))
    known.check_known(described, "folded")
    paths, left = provable(model, X, partial)
    plan, _ = find_pairs(model, X)
    new = folded(model, [plan[path] for path in paths])
    return (new, left) if partial else new


def provable(
    model: nnx.Module, X: Any, partial: bool
) -> tuple[list[str], dict[str, str]]:
    """The paths of what folds, and {path: reason} of the other batch norms.

    Proven to keep the output; unless `partial`, ValueError names the layer at fault.
    """

    def prove_with(in_float64: bool, tolerance: float) -> Any:
        modes = ["prediction"]
        with exact.arithmetic(in_float64):
            given = exact.module(model) if in_float64 else model
            inputs = exact.widened(X) if in_float64 else X
            before = nnx_surgery.outputs(given, inputs, modes, in_float64)
            plan, refused = find_pairs(given, inputs)

            def fold(paths: list[str]) -> None:
                new = folded(given, [plan[path] for path in paths])
                after = nnx_surgery.outputs(new, inputs, modes, in_float64)
                proof.prove(before, after, tolerance)

            def refuse(path: str, why: ValueError) -> ValueError:
                return refusal(plan[path], why)

            paths = {path: path for path in plan}
            return folding.foldable(fold, paths, refused, refuse, partial)

    return proof.prove_in_float64(prove_with, exact.dtype_of(nnx.state(model)))


def folded(model: Module, pairs: list[Pair]) -> Module:
    """A clone in which these pairs are one layer each."""
    by_linear = {linear.path: norm.layer for norm, linear in pairs}
    passed = {norm.path for norm, _ in pairs}

    def exchange(path, layer):
        path = tuple(map(str, path))
        if path in passed:
            return Passed()
        if path in by_linear:
            write(layer, operands(by_linear[path]))
        return layer

    return nnx_surgery.exchanged(model, exchange)


def write(linear: Any, operands: norms.Operands) -> None:
    """Give a linear layer the weights that do the batch norm's work too."""
    bias = None if linear.bias is None else np.asarray(linear.bias[...])
    out = -2 if getattr(linear, "transpose_kernel", False) else -1
    weight, bias = folding.fold(np.asarray(linear.kernel[...]), bias, *operands, out)
    linear.kernel[...] = jnp.asarray(weight)
    linear.bias, linear.use_bias = nnx.Param(jnp.asarray(bias)), True


def operands(layer: Any) -> norms.Operands:
    """mean, var, gamma, beta [C] and eps of a layer's prediction, as NumPy."""
    variables = nnx_surgery.variables_of(layer)
    native = nn.BatchNorm(epsilon=getattr(layer, "epsilon", 0))
    own = layer.layer if isinstance(layer, Adapter) else native
    return norms.operands(own, variables)


# --- Which layer takes which batch norm ---------------------------------------------


def find_pairs(model: nnx.Module, X: Any) -> Plan:
    """{path of a batch norm: pair}, and {path: reason} of those without a pair."""
    calls, layers = [], {}

    def exchange(path, layer):
        path = tuple(map(str, path))
        if not isinstance(layer, (*NORMS, *LINEAR)):
            return layer
        layers[path] = layer
        return Watched(layer, path, calls)

    nnx_surgery.run(nnx_surgery.exchanged(model, exchange), X)
    for call in calls:  # within `nnx.remat` there is another, without values
        call.layer = layers[call.path]
    found = [call for call in calls if isinstance(call.layer, NORMS)]
    return plan_of(found, lambda norm: linear_before(norm, calls))


def linear_before(norm: Call, calls: list[Call]) -> Call:
    """The call of the linear layer that takes this batch norm in."""
    try:
        check_once(norm, calls, "it must")
        own = getattr(norm.layer, "layer", norm.layer)
        if isinstance(norm.layer, Adapter) and own.predicts_by_batch():
            raise ValueError(
                "it must predict by moving statistics; it predicts by those of the "
                "batch"
            )
        state = norms.state_of(nnx_surgery.variables_of(norm.layer))
        check_axis(norm.X, own.axis, state["moving_mean"].shape)
        readers = [c for c in calls if c.Y is norm.X and isinstance(c.layer, LINEAR)]
        if not readers:
            raise ValueError(
                "it must directly follow a convolution or dense layer; "
                "what it reads comes from elsewhere"
            )
        check_once(readers[0], calls, f"{readers[0].name} must")
        if own := known.peculiarity(readers[0].layer, LINEAR_HOMES):
            raise ValueError(f"{readers[0].name} must do nothing else; {own}")
        return readers[0]
    except ValueError as error:
        raise ValueError(f"{norm.name} cannot be folded: {error}") from None
