"""Fold each batch norm of a Flax module into the linear layer before it."""

from functools import partial
from typing import Any, overload

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import nnx
from flax.traverse_util import flatten_dict, unflatten_dict
from flax.typing import VariableDict

from bn_from_scratch.backends.jax.models import exact, nnx_folding, norms, rewiring
from bn_from_scratch.backends.jax.models.nnx_surgery import Module
from bn_from_scratch.backends.jax.models.tracing import (
    LINEAR,
    Pair,
    find_pairs,
    refusal,
)
from bn_from_scratch.surgery import folding, proof

Paths = set[tuple[str, ...]]


@overload
def fold_batch_norm(model: Module, X: Any) -> Module: ...


@overload
def fold_batch_norm(
    model: nn.Module, X: Any, variables: VariableDict
) -> tuple[nn.Module, dict[str, Any]]: ...


def fold_batch_norm(model: Any, X: Any, variables: VariableDict | None = None) -> Any:
    """A module for prediction and its variables, in which each batch norm is part of
    the convolution or dense layer before it and answers with what it reads; of an nnx
    module, the new module alone.

    The output on X is proven to stay (in float64); a batch norm that cannot be folded
    raises ValueError with the reason.
    """
    if isinstance(model, nnx.Module):
        return nnx_folding.fold_batch_norm(model, X)
    variables = rewiring.given(variables)
    pairs = find_pairs(model, X, variables)
    prove(model, variables, X, pairs)
    return folded(model, variables, pairs)


def prove(model: nn.Module, variables: VariableDict, X: Any, pairs: list[Pair]) -> None:
    """Raise ValueError unless folding keeps the output; name the layer at fault."""
    before = rewiring.outputs(model, variables, X, ["prediction"])

    def fold(pairs):
        with exact.arithmetic():
            after = folded(model, exact.widened(variables), pairs)
        proof.prove(before, rewiring.outputs(*after, X, ["prediction"]))

    folding.fold_all(fold, pairs, refusal)


def folded(
    model: nn.Module, variables: VariableDict, pairs: list[Pair]
) -> tuple[nn.Module, dict[str, Any]]:
    """The module and variables in which these pairs are one layer each."""
    new = rewiring.rewired(model, partial(answer, paths_of(pairs)))
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
        return norms.cast(X, norms.output_dtype(layer, X))
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
