"""Fold each batch norm of a PyTorch model into the linear layer before it."""

from typing import Any

import numpy as np
import torch
from torch import nn

from bn_from_scratch.backends.torch.models import copying
from bn_from_scratch.backends.torch.models.surgery import (
    Native,
    Norm,
    check_any,
    numpy,
    state_of,
)
from bn_from_scratch.backends.torch.models.tracing import plan_of, refusal
from bn_from_scratch.backends.torch.variants import (
    MeanOnlyBatchNorm,
    VarOnlyBatchNorm,
)
from bn_from_scratch.surgery import folding, proof

# mean, var, gamma, beta, eps
Operands = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, float]


def fold_batch_norm(model: nn.Module, X: Any) -> nn.Module:
    """A new model for prediction, in which each batch norm is part of the layer before.

    What stood for the batch norm is an Identity.  A weight that is shared is folded in
    this layer alone.  The output on the input X is proven to stay (in float64); a batch
    norm that cannot be folded raises ValueError with the reason.
    """
    check_any(model)
    model = copying.copied(model)
    copying.run(model, X)  # layers without sizes take theirs
    plan = plan_of(model, X)
    prove(model, X, plan)
    return folded(model, plan)


def prove(model: nn.Module, X: Any, plan: dict[str, str]) -> None:
    """Raise ValueError unless folding keeps the output; name the layer at fault."""
    before = copying.outputs(model, X, ["prediction"])

    def fold(pairs: list[tuple[str, str]]) -> None:
        after = folded(copying.exact(model), dict(pairs))
        proof.prove(before, copying.outputs(after, X, ["prediction"]))

    folding.fold_all(fold, list(plan.items()), lambda pair, why: refusal(pair[0], why))


def folded(model: nn.Module, plan: dict[str, str]) -> nn.Module:
    """A copy in which {path of a batch norm: path of its linear layer} are one."""
    layers = dict(model.named_modules())
    identities = {id(layers[path]): nn.Identity().eval() for path in plan}
    copy = copying.copied(model, copying.new_memo(model) | identities)
    linears = dict(copy.named_modules())
    for path, name in plan.items():
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
