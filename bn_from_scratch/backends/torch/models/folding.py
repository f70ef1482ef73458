"""Fold each batch norm of a PyTorch model into the linear layer before it."""

from typing import Any, Literal, overload

import numpy as np
import torch
from torch import nn

from bn_from_scratch.backends.torch.models import copying, refusals
from bn_from_scratch.backends.torch.models.surgery import (
    Native,
    Norm,
    check_model,
    norms_of,
    numpy,
    state_of,
)
from bn_from_scratch.backends.torch.models.tracing import Pair, plan_of, refusal
from bn_from_scratch.backends.torch.variants import (
    MeanOnlyBatchNorm,
    VarOnlyBatchNorm,
)
from bn_from_scratch.surgery import folding, proof

# mean, var, gamma, beta, eps
Operands = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, float]


@overload
def fold_batch_norm(
    model: nn.Module, X: Any, partial: Literal[False] = False
) -> nn.Module: ...


@overload
def fold_batch_norm(
    model: nn.Module, X: Any, partial: Literal[True]
) -> tuple[nn.Module, dict[str, str]]: ...


def fold_batch_norm(model: nn.Module, X: Any, partial: bool = False) -> Any:
    """A new model for prediction, in which each batch norm is part of the layer before.

    What stood for the batch norm is an Identity.  A weight that is shared is folded in
    this layer alone.  The output on the input X is proven to stay (in float64); a batch
    norm that cannot be folded raises ValueError with the reason.
    partial: fold those that can be, and return {path: reason} of the others, too.
    """
    check_model(model, "folded")
    for path, layer in norms_of(model).items():
        refusals.check_hooks(path, layer, "folded")
    model = copying.copied(model)
    copying.run(model, X)  # layers without sizes take theirs
    pairs, left = provable(model, X, partial)
    new = folded(model, pairs)
    return (new, left) if partial else new


def provable(
    model: nn.Module, X: Any, partial: bool
) -> tuple[list[Pair], dict[str, str]]:
    """The pairs that fold, and {path: reason} of the other batch norms.

    Proven to keep the output; unless `partial`, ValueError names the layer at fault.
    """
    plan, refused = plan_of(model, X)
    layers = dict(model.named_modules())
    for path, linear in list(plan.values()):
        if hook := refusals.hook_of(layers[linear]):
            reason = f"{linear} must do nothing else; it has a {hook}"
            refused[path] = refusal(path, reason)
            del plan[path]

    def prove_with(in_float64: bool, tolerance: float) -> Any:
        modes = ["prediction"]
        before = copying.outputs(model, X, modes, in_float64)

        def fold(pairs: list[Pair]) -> None:
            given = copying.exact(model) if in_float64 else model
            after = copying.outputs(folded(given, pairs), X, modes, in_float64)
            proof.prove(before, after, tolerance)

        def refuse(pair: Pair, why: ValueError) -> ValueError:
            return refusal(pair[0], why)

        return folding.foldable(fold, plan, refused, refuse, partial)

    dtype = copying.dtype_of(model)
    return proof.prove_in_float64(prove_with, dtype)


def folded(model: nn.Module, pairs: list[Pair]) -> nn.Module:
    """A copy in which these pairs are one layer each."""
    layers = dict(model.named_modules())
    identities = {id(layers[path]): nn.Identity().eval() for path, _ in pairs}
    copy = copying.copied(model, copying.new_memo(model) | identities)
    linears = dict(copy.named_modules())
    for path, name in pairs:
        norm: Any = layers[path]
        write(linears[name], operands(norm))
    return copy


def write(linear: Any, operands: Operands) -> None:
    """Give a linear layer the weights that do the batch norm's work too."""
    weight, bias = linear.weight, linear.bias
    groups = linear.groups if getattr(linear, "transposed", False) else None
    rows = by_output(weight.detach().double().cpu().numpy(), groups)
    bias = None if bias is None else numpy(bias)
    rows, bias = folding.fold(rows, bias, *operands)
    for name, v in (("weight", by_output(rows, groups)), ("bias", bias)):
        v = torch.as_tensor(v).to(weight.device, weight.dtype)
        setattr(linear, name, nn.Parameter(v, weight.requires_grad))


def by_output(weight: np.ndarray, groups: int | None) -> np.ndarray:
    """A transposed convolution's [in, out / groups, *] <-> [out, in / groups, *]."""
    if groups is None:
        return weight
    first, second, *kernel = weight.shape
    parts = weight.reshape(groups, first // groups, second, *kernel).swapaxes(1, 2)
    return parts.reshape(groups * second, first // groups, *kernel)


@torch.no_grad()
def operands(norm: Norm) -> Operands:
    """mean, var, gamma, beta [C] and eps of a layer's prediction, as NumPy."""
    state, eps = state_of(norm), norm.eps
    mean, var = state["moving_mean"], state["moving_var"]
    if isinstance(norm, Native):
        one, zero = torch.ones_like(var), torch.zeros_like(mean)
        four = mean, var, state.get("gamma", one), state.get("beta", zero)
    else:
        four = norm.operands(mean, var, training=False)
    mean, var, gamma, beta = map(numpy, four)
    if isinstance(norm, MeanOnlyBatchNorm):
        var, eps = var * 0 + 1, 0
    if isinstance(norm, VarOnlyBatchNorm):
        mean = mean * 0
    return mean, var, gamma, beta, eps
