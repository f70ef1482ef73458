"""Fold each batch norm of a Flax module into the linear layer before it."""

import functools
from typing import Any, Literal, overload

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import nnx
from flax.traverse_util import flatten_dict, unflatten_dict
from flax.typing import VariableDict

from bn_from_scratch.backends.jax.models import exact, nnx_folding, norms, rewiring
from bn_from_scratch.backends.jax.models.nnx_surgery import Module
from bn_from_scratch.backends.jax.models.surgery import batch_norms, check_model
from bn_from_scratch.backends.jax.models.tracing import (
    LINEAR,
    Pair,
    find_pairs,
    refusal,
)
from bn_from_scratch.surgery import folding, known, proof

Paths = set[tuple[str, ...]]


class Passed(nn.Module):
    """What stands for a batch norm that was folded."""

    def __call__(self, X: Any) -> Any:
        return X


@overload
def fold_batch_norm(
    model: Module, X: Any, variables: None = None, partial: Literal[False] = False
) -> Module: ...


@overload
def fold_batch_norm(
    model: Module, X: Any, variables: None = None, *, partial: Literal[True]
) -> tuple[Module, dict[str, str]]: ...


@overload
def fold_batch_norm(
    model: nn.Module, X: Any, variables: VariableDict, partial: Literal[False] = False
) -> tuple[nn.Module, dict[str, Any]]: ...


@overload
def fold_batch_norm(
    model: nn.Module, X: Any, variables: VariableDict, partial: Literal[True]
) -> tuple[nn.Module, dict[str, Any], dict[str, str]]: ...


def fold_batch_norm(
    model: Any, X: Any, variables: VariableDict | None = None, partial: bool = False
) -> Any:
    """A module for prediction and its variables, in which each batch norm is part of
    the convolution or dense layer before it and answers with what it reads; of an nnx
    module, the new module alone.

    The output on X is proven to stay (in float64); a batch norm that cannot be folded
    raises ValueError with the reason.
    partial: fold those that can be, and return {path: reason} of the others, too.
    """
    if isinstance(model, nnx.Module):
        return nnx_folding.fold_batch_norm(model, X, partial)
    variables = rewiring.given(variables)
    pairs, left = provable(model, variables, X, partial)
    new = folded(model, variables, pairs)
    return (*new, left) if partial else new


def provable(
    model: nn.Module, variables: VariableDict, X: Any, partial: bool
) -> tuple[list[Pair], dict[str, str]]:
    """The pairs that fold, and {path: reason} of the other batch norms.

    Proven to keep the output; unless `partial`, ValueError names the layer at fault.
    """
    plan, refused = find_pairs(model, X, variables)
    if not refused:  # a layer norm is among these
        check_model(model, "folded", X, variables)
    known.check_known(batch_norms(model, X, variables), "folded")

    def prove_with(in_float64: bool, tolerance: float) -> Any:
        modes = ["prediction"]
        before = rewiring.outputs(model, variables, X, modes, in_float64)

        def fold(pairs: list[Pair]) -> None:
            with exact.arithmetic(in_float64):
                given = exact.widened(variables) if in_float64 else variables
                after = folded(model, given, pairs)
            after = rewiring.outputs(*after, X, modes, in_float64)
            proof.prove(before, after, tolerance)

        return folding.foldable(fold, plan, refused, refusal, partial)

    return proof.prove_in_float64(prove_with, exact.dtype_of(variables))


def folded(
    model: nn.Module, variables: VariableDict, pairs: list[Pair]
) -> tuple[nn.Module, dict[str, Any]]:
    """The module and variables in which these pairs are one layer each."""
    if not pairs:
        return model, dict(variables)
    new = rewiring.rewired(model, functools.partial(answer, paths_of(pairs)))
    return new, rewritten(variables, pairs)


def paths_of(pairs: list[Pair]) -> tuple[Paths, Paths]:
    norms, linear = (
        {call.path for call in calls} for calls in zip(*pairs, strict=True)
    )
    return norms, linear


def answer(
    paths: tuple[Paths, Paths],
    layer: nn.Module,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:
    """The linear layers do the batch norms' work; these pass on what they read."""
    folded, linear = paths
    if layer.path in folded and isinstance(layer, norms.NORMS):
        X = norms.call_of(layer, args, kwargs)[0]
        passed = Passed().clone(parent=layer.scope)
        return passed(norms.cast(X, norms.output_dtype(layer, X)))
    if layer.path in linear and type(layer) in LINEAR:
        return layer.clone(use_bias=True, parent=layer.scope)(*args, **kwargs)
    return None


def rewritten(variables: VariableDict, pairs: list[Pair]) -> dict[str, Any]:
    """The variables, the batch norms' taken into those of the linear layers."""
    flat: dict[Any, Any] = flatten_dict(variables)
    for norm, linear in pairs:
        own = norms.variables_of(variables, norm.path)
        for kind, values in own.items():
            for name in values:
                del flat[kind, *norm.path, name]
        place = "params", *linear.path
        weight = np.asarray(nn.unbox(flat[*place, "kernel"]))
        bias = flat.get((*place, "bias"))
        out = -2 if getattr(linear.layer, "transpose_kernel", False) else -1
        weight, bias = folding.fold(weight, bias, *norms.operands(norm.layer, own), out)
        flat[*place, "kernel"], flat[*place, "bias"] = map(jnp.asarray, (weight, bias))
    return unflatten_dict(flat)
