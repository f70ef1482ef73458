"""Fold each batch norm of a Keras model into the linear layer before it."""

from collections.abc import Iterable
from typing import Any, Literal, overload

import keras
import numpy as np
from keras import layers as nn

from bn_from_scratch.backends.tensorflow.models import copying
from bn_from_scratch.backends.tensorflow.models.surgery import (
    Native,
    batch_norms,
    check_model,
    norms_of,
    state_of,
)
from bn_from_scratch.backends.tensorflow.models.tracing import (
    LAYER_NORMS,
    LINEAR,
    plan_of,
    refusal,
)
from bn_from_scratch.backends.tensorflow.variants import (
    MeanOnlyBatchNorm,
    VarOnlyBatchNorm,
)
from bn_from_scratch.surgery import folding, known, proof


@overload
def fold_batch_norm(
    model: keras.Model, X: Any, partial: Literal[False] = False
) -> keras.Model: ...


@overload
def fold_batch_norm(
    model: keras.Model, X: Any, partial: Literal[True]
) -> tuple[keras.Model, dict[str, str]]: ...


def fold_batch_norm(model: keras.Model, X: Any, partial: bool = False) -> Any:
    """A new model for prediction, in which each batch norm is part of the layer before.

    What stood for the batch norm is an Identity of its name.  The output on X is proven
    to stay (in float64); a batch norm that cannot be folded raises ValueError with the
    reason.
    partial: fold those that can be, and return {path: reason} of the others, too.
    """
    if not norms_of(model, LAYER_NORMS):
        check_model(model, "folded")
    known.check_known(batch_norms(model), "folded")
    paths, left = provable(model, X, partial)
    new = folded(model, paths)
    return (new, left) if partial else new


def provable(
    model: keras.Model, X: Any, partial: bool
) -> tuple[list[str], dict[str, str]]:
    """The paths of what folds, and {path: reason} of the other batch norms.

    Proven to keep the output, unless ValueError is raised.
    """
    plan, refused = plan_of(model)

    def prove_with(in_float64: bool, tolerance: float) -> Any:
        modes = ["prediction"]
        before = copying.outputs(model, X, modes, in_float64)

        def fold(paths: list[str]) -> None:
            given = copying.exact(model) if in_float64 else model
            after = copying.outputs(folded(given, paths), X, modes, in_float64)
            proof.prove(before, after, tolerance)

        paths = {path: path for path in plan}
        return folding.foldable(fold, paths, refused, refusal, partial)

    dtype = copying.dtype_of(model)
    return proof.prove_in_float64(prove_with, dtype)


def folded(model: keras.Model, paths: Iterable[str]) -> keras.Model:
    """A new model, in which the batch norms at these paths are Identities."""
    plan, _ = plan_of(model)
    pairs = [plan[path] for path in paths]
    taken = {id(linear): norm for norm, linear in pairs}

    def clone(layer):
        if id(layer) in taken:
            return copying.cloned(layer, lambda config: config | {"use_bias": True})
        if any(layer is norm for norm, _ in pairs):
            return nn.Identity(name=layer.name, dtype=layer.dtype_policy.name)
        return copying.cloned(layer)

    def write(old, new):
        if id(old) in taken:
            write_folded(old, taken[id(old)], new)
        elif not isinstance(new, nn.Identity):
            copying.write(old, new)

    return copying.rebuilt(model, clone, write)


def write_folded(linear: Any, norm: keras.Layer, new: keras.Layer) -> None:
    """Give the copy of a linear layer the weights that do the batch norm's work too."""
    name, axis = LINEAR[type(linear)]
    weight = getattr(linear, name).numpy()
    shape = weight.shape
    if axis == (-2, -1):
        weight, axis = weight.reshape(*shape[:-2], -1), -1
    bias = linear.bias.numpy() if linear.use_bias else None
    weight, bias = folding.fold(weight, bias, *operands(norm), axis)
    named = {v.name: v for v in linear.variables}
    for v in new.variables:
        if v.name == "bias":
            v.assign(bias)
        elif v.name == name:
            v.assign(weight.reshape(shape))
        else:
            v.assign(named[v.name])
    new.trainable = linear.trainable


def operands(
    norm: Any,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, float]:
    """mean, var, gamma, beta [C] and eps of a layer's prediction, as NumPy."""
    state = state_of(norm)
    mean, var = state["moving_mean"], state["moving_var"]
    if isinstance(norm, Native):
        one, zero, eps = np.ones(mean.shape), np.zeros(mean.shape), norm.epsilon
        four = mean, var, state.get("gamma", one), state.get("beta", zero)
    else:
        four, eps = norm.operands(mean, var, training=False), norm.eps
    mean, var, gamma, beta = map(np.asarray, four)
    if isinstance(norm, MeanOnlyBatchNorm):
        var, eps = np.ones_like(var), 0
    if isinstance(norm, VarOnlyBatchNorm):
        mean = np.zeros_like(mean)
    return mean, var, gamma, beta, eps
