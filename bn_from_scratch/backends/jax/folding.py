"""Fold each batch norm of a Flax module into the linear layer before it."""

import dataclasses
from collections import Counter
from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict

from bn_from_scratch import spec
from bn_from_scratch.backends.jax import norms, rewiring
from bn_from_scratch.backends.jax.variants import (
    LayerNorm,
    MeanOnlyBatchNorm,
    VarOnlyBatchNorm,
)
from bn_from_scratch.surgery import folding, proof

LINEAR = (nn.Dense, nn.Conv, nn.ConvTranspose)
LAYER_NORMS = (nn.LayerNorm, LayerNorm)


@dataclasses.dataclass
class Call:
    """One call of a layer, as a trace saw it."""

    path: tuple[str, ...]
    layer: nn.Module
    X: Any
    Y: Any
    training: bool = False

    @property
    def name(self):
        return ".".join(self.path)


def fold_batch_norm(model, X, variables):
    """A module for prediction and its variables, in which each batch norm is part of
    the convolution or dense layer before it and answers with what it reads.

    The output on X is proven to stay; a batch norm that cannot be folded raises
    ValueError with the reason.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"only a linen module can be folded; got {type(model).__name__}"
        )
    pairs = find_pairs(model, X, variables)
    before = rewiring.outputs(model, variables, X, ["prediction"])
    tolerance = rewiring.tolerance_of(variables)

    def proven(pairs):
        folded = rewiring.rewired(model, partial(answer, paths_of(pairs)))
        written = rewritten(variables, pairs)
        after = rewiring.outputs(folded, written, X, ["prediction"])
        proof.prove(before, after, tolerance)
        return folded, written

    try:
        return proven(pairs)
    except ValueError:
        # The trace knows who gave what a batch norm reads, not who else reads it.
        for norm, linear in pairs:
            try:
                proven([(norm, linear)])
            except ValueError as error:
                raise ValueError(
                    f"{norm.name} cannot be folded: it alone must read {linear.name}; "
                    f"{error}"
                ) from None
        raise


def paths_of(pairs):
    norms, linear = (
        {call.path for call in calls} for calls in zip(*pairs, strict=True)
    )
    return norms, linear


def answer(paths, layer, args, kwargs):
    """The linear layers do the batch norms' work; these pass on what they read."""
    folded, linear = paths
    if layer.path in folded and isinstance(layer, norms.NORMS):
        X = norms.call_of(layer, args, kwargs)[0]
        return norms.cast(X, norms.output_dtype(layer, X))
    if layer.path in linear and type(layer) in LINEAR:
        return layer.clone(use_bias=True, parent=layer.scope)(*args, **kwargs)
    return None


def rewritten(variables, pairs):
    """The variables, the batch norms' taken into those of the linear layers."""
    flat = flatten_dict(variables)
    for norm, linear in pairs:
        own = norms.variables_of(variables, norm.path)
        for kind, values in own.items():
            for name in values:
                del flat[kind, *norm.path, name]
        place = "params", *linear.path
        weight = np.asarray(nn.unbox(flat[*place, "kernel"]))
        bias = flat.get((*place, "bias"))
        out = -2 if getattr(linear.layer, "transpose_kernel", False) else -1
        weight, bias = folding.fold(weight, bias, *operands(norm.layer, own), out)
        flat[*place, "kernel"], flat[*place, "bias"] = map(jnp.asarray, (weight, bias))
    return unflatten_dict(flat)


def operands(layer, variables):
    """mean, var, gamma, beta [C] and eps of a layer's prediction, as NumPy."""
    state = norms.state_of(variables)
    mean, var = state["moving_mean"], state["moving_var"]
    if norms.is_native(layer):
        eps, one, zero = layer.epsilon, np.ones(mean.shape), np.zeros(mean.shape)
        four = mean, var, state.get("gamma", one), state.get("beta", zero)
    else:
        eps, bound = layer.eps, layer.bind(variables)
        four = bound.operands(mean, var, training=False)
    mean, var, gamma, beta = map(np.asarray, four)
    if isinstance(layer, MeanOnlyBatchNorm):
        var, eps = np.ones_like(var), 0
    if isinstance(layer, VarOnlyBatchNorm):
        mean = np.zeros_like(mean)
    return mean, var, gamma, beta, eps


# --- Which layer takes which batch norm ---------------------------------------------


def find_pairs(model, X, variables):
    """[(batch norm, linear layer)], as they were called; ValueError for the first that
    cannot be folded."""
    calls = []

    def note(layer, args, kwargs, Y):
        unbound, training = layer.clone(parent=None), False
        X = args[0] if args else None
        if isinstance(layer, norms.NORMS):
            X, training, _ = norms.call_of(layer, args, kwargs)
        calls.append(Call(layer.path, unbound, X, Y, training))

    rewiring.trace(model, variables, X, note)
    kinds = (*norms.NORMS, *LAYER_NORMS)
    found = [call for call in calls if isinstance(call.layer, kinds)]
    if not found:
        raise ValueError("the model must have a batch norm; it has none")
    return [(norm, linear_before(norm, calls, variables)) for norm in found]


def linear_before(norm, calls, variables):
    """The call of the linear layer that takes this batch norm in."""
    try:
        check_norm(norm, calls, variables)
        return check_linear(norm, calls)
    except ValueError as error:
        raise ValueError(f"{norm.name} cannot be folded: {error}") from None


def check_norm(norm, calls, variables):
    """Raise ValueError unless a batch norm predicts in one way, for one reader."""
    if isinstance(norm.layer, LAYER_NORMS):
        raise ValueError(
            "it must predict by moving statistics; "
            "a layer norm predicts by those of each example"
        )
    check_once(norm, calls, "it must")
    ours = not norms.is_native(norm.layer)
    fixed = ours and norm.layer.frozen == "all"
    if (norm.training or (ours and norm.layer.predicts_by_batch())) and not fixed:
        raise ValueError(
            "it must predict by moving statistics; it predicts by those of the batch"
        )
    shape = norms.state_of(norms.variables_of(variables, norm.path))[
        "moving_mean"
    ].shape
    axis = norm.layer.axis
    if spec.kept_axes(norm.X.ndim, axis) != (norm.X.ndim - 1,) or len(shape) != 1:
        raise ValueError(
            f"it must normalize the last axis of X, with statistics [C]; its axis is "
            f"{axis} and its statistics have shape {shape}"
        )


def check_linear(norm, calls):
    """The call of a linear layer whose output a batch norm reads, and it alone."""
    linear = next((c for c in calls if c.Y is norm.X and type(c.layer) in LINEAR), None)
    if linear is None:
        raise ValueError(
            "it must directly follow a convolution or dense layer; "
            "what it reads comes from elsewhere"
        )
    check_once(linear, calls, f"{linear.name} must")
    for other in calls:
        is_norm = isinstance(other.layer, norms.NORMS)
        if other.X is linear.Y and other.path != norm.path and is_norm:
            raise ValueError(f"it alone must read {linear.name}; so does {other.name}")
    return linear


def check_once(call, calls, subject):
    times = Counter(other.path for other in calls)[call.path]
    if times > 1:
        raise ValueError(f"{subject} be used once; it is used {times} times")
