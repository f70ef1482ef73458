"""Fold each batch norm of a Gluon model into the linear layer before it."""

from typing import Any, Literal, overload

import numpy
from mxnet import gluon, np
from mxnet.gluon import Block
from mxnet.gluon.contrib.nn import Identity
from mxnet.numpy import ndarray

from bn_from_scratch.backends.mxnet.blocks import layers_of
from bn_from_scratch.backends.mxnet.models import copying, refusals
from bn_from_scratch.backends.mxnet.models.surgery import (
    Native,
    Norm,
    check_model,
    describe,
    norms_of,
    put,
    state_of,
)
from bn_from_scratch.backends.mxnet.models.tracing import Pair, plan_of, refusal
from bn_from_scratch.backends.mxnet.parameters import Fill
from bn_from_scratch.backends.mxnet.variants import (
    MeanOnlyBatchNorm,
    VarOnlyBatchNorm,
)
from bn_from_scratch.surgery import folding, proof

# mean, var, gamma, beta, eps
Operands = tuple[numpy.ndarray, numpy.ndarray, numpy.ndarray, numpy.ndarray, float]


@overload
def fold_batch_norm(model: Block, X: Any, partial: Literal[False] = False) -> Block: ...


@overload
def fold_batch_norm(
    model: Block, X: Any, partial: Literal[True]
) -> tuple[Block, dict[str, str]]: ...


def fold_batch_norm(model: Block, X: Any, partial: bool = False) -> Any:
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


def provable(model: Block, X: Any, partial: bool) -> tuple[list[Pair], dict[str, str]]:
    """The pairs that fold, and {path: reason} of the other batch norms.

    Proven to keep the output; unless `partial`, ValueError names the layer at fault.
    """
    plan, refused = plan_of(model, X)
    layers = layers_of(model)
    for path, linear in list(plan.values()):
        if hook := refusals.hook_of(layers[linear]):
            reason = f"{linear} must do nothing else; it has a {hook}"
            refused[path] = refusal(path, reason)
            del plan[path]

    def prove_with(in_float64: bool, tolerance: float) -> Any:
        modes = ["prediction"]
        before = copying.outputs(model, X, modes, in_float64)

        def fold(pairs: list[Pair]) -> None:
            given = copying.exact(model, X) if in_float64 else copying.plain(model, X)
            after = copying.outputs(folded(given, pairs), X, modes, in_float64)
            proof.prove(before, after, tolerance)

        def refuse(pair: Pair, why: ValueError) -> ValueError:
            return refusal(pair[0], why)

        return folding.foldable(fold, plan, refused, refuse, partial)

    dtype = copying.dtype_of(model)
    return proof.prove_in_float64(prove_with, dtype)


def folded(model: Block, pairs: list[Pair]) -> Block:
    """A copy in which these pairs are one layer each."""
    layers = layers_of(model)
    identities = {id(layers[path]): Identity() for path, _ in pairs}
    copy = copying.copied(model, copying.new_memo(model) | identities)
    linears = layers_of(copy)
    for path, name in pairs:
        norm: Any = layers[path]
        write(linears[name], operands(norm))
    return copy


def write(linear: Any, operands: Operands) -> None:
    """Give a linear layer the weights that do the batch norm's work too."""
    conv = getattr(linear, "_kwargs", {})
    transposed = getattr(linear, "_op_name", "").lower() == "deconvolution"
    groups = conv["num_group"] if transposed else None
    weight, bias = linear.weight, linear.bias
    rows = by_output(float64(weight.list_data()[0]), groups)
    bias = None if bias is None else float64(bias.list_data()[0])
    rows, bias = folding.fold(rows, bias, *operands)
    for name, v in (("weight", by_output(rows, groups)), ("bias", bias)):
        new_name = f"{linear.prefix}folded_{name}"  # the old may be shared
        kind = {"shape": v.shape, "dtype": weight.dtype, "grad_req": weight.grad_req}
        p = gluon.Parameter(new_name, init=Fill(0), **kind)
        p.initialize(ctx=weight.list_ctx())
        p.set_data(np.array(v, dtype=weight.dtype))
        put(linear, name, p)
    if conv:
        conv["no_bias"] = False


def float64(v: ndarray) -> numpy.ndarray:
    """As NumPy."""
    return v.asnumpy().astype(numpy.float64)


def by_output(weight: numpy.ndarray, groups: int | None) -> numpy.ndarray:
    """A transposed convolution's [in, out / groups, *] <-> [out, in / groups, *]."""
    if groups is None:
        return weight
    first, second, *kernel = weight.shape
    parts = weight.reshape(groups, first // groups, second, *kernel).swapaxes(1, 2)
    return parts.reshape(groups * second, first // groups, *kernel)


def operands(norm: Norm) -> Operands:
    """mean, var, gamma, beta [C] and eps of a layer's prediction, as NumPy."""
    state = {name: p.list_data()[0] for name, p in state_of(norm).items()}
    mean, var = state["moving_mean"], state["moving_var"]
    eps = describe("", norm).settings["eps"]
    if isinstance(norm, Native):
        one: ndarray = np.ones_like(var)
        zero: ndarray = np.zeros_like(mean)
        four = mean, var, state.get("gamma", one), state.get("beta", zero)
    else:
        with mean.ctx:
            four = norm.operands(mean, var, training=False)
    mean, var, gamma, beta = map(float64, four)
    if isinstance(norm, MeanOnlyBatchNorm):
        var, eps = var * 0 + 1, 0
    if isinstance(norm, VarOnlyBatchNorm):
        mean = mean * 0
    return mean, var, gamma, beta, eps
