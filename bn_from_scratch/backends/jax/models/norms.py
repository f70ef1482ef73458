"""A batch norm of Flax in the spec's words: its settings, state and calls."""

import dataclasses
from collections.abc import Callable, Container, Iterable, Mapping
from functools import partial
from typing import Any, TypeGuard

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import nnx
from flax.linen.dtypes import canonicalize_dtype
from flax.typing import VariableDict
from jax import Array

from bn_from_scratch import checks, spec
from bn_from_scratch.backends.jax.builtin import NAMES, call
from bn_from_scratch.backends.jax.layer import BatchNorm
from bn_from_scratch.backends.jax.variants import MeanOnlyBatchNorm, VarOnlyBatchNorm
from bn_from_scratch.spec import Axis
from bn_from_scratch.surgery import known
from bn_from_scratch.surgery.description import Description

HOMES = nn.BatchNorm.__module__, nnx.BatchNorm.__module__
NORMS = (nn.BatchNorm, BatchNorm)
Operands = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, float]


def is_native(layer: Any) -> TypeGuard[nn.BatchNorm]:
    return isinstance(layer, nn.BatchNorm)


def describe(
    path: str, layer: nn.Module, shape: tuple[int, ...], state: Mapping[str, Any]
) -> Description:
    """A layer that normalizes an X of this shape."""
    settings = settings_of(layer)
    num_dims = len(shape) if is_native(layer) else layer.num_dims
    sizes = spec.stats_shape(shape, settings["axis"])
    trains = settings["frozen"] is None
    has = {"gamma": settings["scale"], "beta": settings["center"]}
    return Description(
        path,
        type(layer).__name__,
        is_native(layer),
        sizes[0] if len(sizes) == 1 else sizes,
        num_dims,
        settings,
        {name: np.array(v) for name, v in state.items()},
        {name: trains for name in has if has[name]},
        peculiarity(layer),
    )


def peculiarity(layer: nn.Module | nnx.Module) -> str | None:
    """What a layer does that its class does not say; its fields may be functions."""
    fields = getattr(layer, "__dataclass_fields__", ())
    return known.peculiarity(layer, HOMES, fields)


def settings_of(layer: nn.Module) -> dict[str, Any]:
    """The settings of a linen layer, Flax's own or ours."""
    if is_native(layer):
        return native_settings(layer)
    names = "eps", "momentum", "axis", "center", "scale", "correction", "statistics"
    settings = {k: getattr(layer, k) for k in (*names, "frozen")}
    return settings | {"dtype": jnp.dtype(layer.dtype).name}


def native_settings(layer: nn.BatchNorm | nnx.BatchNorm) -> dict[str, Any]:
    """What Flax's layer, linen or nnx, says of itself."""
    return {
        "eps": layer.epsilon,
        "momentum": 1 - layer.momentum,
        "dtype": jnp.dtype(layer.param_dtype).name,
        "axis": layer.axis,
        "center": layer.use_bias,
        "scale": layer.use_scale,
        "correction": 0,
        "statistics": "moving",
        "frozen": None,
    }


def replacement(
    description: Description, make: Callable[..., nn.Module], **others: Any
) -> nn.Module:
    """The new layer, given these arguments beside the settings."""
    settings = description.settings | others
    if settings["frozen"] is None:
        del settings["frozen"]  # FrozenBatchNorm does not take it
    settings["parent"] = None  # no part of the module that is running
    new = dataclasses.replace(description, settings=settings).make(make)
    known.check_replaced(description, peculiarity(new))
    return new


def replicas_of(layer: nn.Module | nnx.Module) -> dict[str, Any]:
    """Where the replicas lie that a layer takes its statistics of, if it does."""
    shared = {k: getattr(layer, k, None) for k in ("axis_name", "axis_index_groups")}
    return {name: v for name, v in shared.items() if v is not None}


def initializers_of(layer: nn.Module) -> dict[str, Any]:
    """Where the state of a linen layer begins; ours only where that was chosen."""
    if is_native(layer):
        gamma, beta = layer.scale_init, layer.bias_init
        return {"gamma_initializer": gamma, "beta_initializer": beta}
    names = [f"{name}_initializer" for name in NAMES]
    return {k: v for k in names if (v := getattr(layer, k)) != getattr(BatchNorm, k)}


# --- State ---------------------------------------------------------------------------


def variables_of(variables: VariableDict, path: Iterable[str]) -> dict[str, Any]:
    """{"params": {...}, "batch_stats": {...}} of the layer at a path, in its words."""
    found = {kind: variables.get(kind, {}) for kind in ("params", "batch_stats")}
    for name in path:
        found = {kind: tree.get(name, {}) for kind, tree in found.items()}
    return {kind: nn.unbox(dict(tree)) for kind, tree in found.items()}


def state_of(variables: VariableDict) -> dict[str, Any]:
    """The state of one layer under our names."""
    theirs = {v: k for k, v in NAMES.items()}
    values = [item for tree in variables.values() for item in tree.items()]
    return {theirs.get(name, name): v for name, v in values}


def moved(
    path: str,
    variables: VariableDict,
    new: nn.Module,
    shape: tuple[int, ...],
    needed: Container[str],
    dtype: Any = None,
) -> dict[str, Any]:
    """The variables of the new layer, for X of this shape, with the old one's state.

    needed: what it must keep.  dtype: that of the caller, None for that of the state.
    """
    X = jnp.zeros(shape)
    fresh = new.init(jax.random.key(0), X, method=partial(call, training=False))
    state, words = state_of(variables), NAMES if is_native(new) else {}
    result = {kind: dict(tree) for kind, tree in fresh.items()}
    for name, value in state.items():
        own = words.get(name, name)
        kind = next((kind for kind, tree in fresh.items() if own in tree), None)
        if kind is not None:
            result[kind][own] = value if dtype is None else jnp.asarray(value, dtype)
        elif name in needed:
            raise ValueError(
                f"{path} cannot be replaced: the new layer must keep its {name}; "
                f"{type(new).__name__} has {', '.join(sorted(state_of(fresh)))}"
            )
    return result


# --- Prediction --------------------------------------------------------------------


def operands(layer: nn.Module, variables: VariableDict) -> Operands:
    """mean, var, gamma, beta [C] and eps of a layer's prediction, as NumPy."""
    state = state_of(variables)
    mean, var = state["moving_mean"], state["moving_var"]
    if is_native(layer):
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


# --- Calls ---------------------------------------------------------------------------


def call_of(
    layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Any, bool, dict[str, Any]]:
    """X, training and {"mask", "update"} of a call of ours or of Flax's layer."""

    def native(x, use_running_average=None, *, mask=None):
        words = "use_running_average", layer.use_running_average, use_running_average
        return x, not nn.merge_param(*words), {"mask": mask}

    def ours(X, training, mask=None, update=True):
        return X, training, {"mask": mask, "update": update}

    try:
        return (native if is_native(layer) else ours)(*args, **kwargs)
    except TypeError:
        if peculiarity(layer) is None:
            raise
        return (*args, *kwargs.values())[0], False, {}  # its call is its own


def answer_as(
    new: nn.Module, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Array:
    """Call the new layer as the old one is called; the dtype is that of its answer."""
    X, training, options = call_of(layer, args, kwargs)
    options = {k: v for k, v in options.items() if v is not None}
    if "mask" in options:
        options["mask"] = mask_like(options["mask"], X.shape, layer.axis)
    if is_native(new) and not options.pop("update", True):
        raise ValueError("Flax's layer always moves its statistics; got update=False")
    dtype = output_dtype(layer, X)
    Y = call(new, cast(X, jnp.promote_types(X.dtype, dtype)), training, **options)
    return cast(Y, dtype)


def cast(X: Array, dtype: Any) -> Array:
    """X itself where it has the dtype: folding knows arrays by their identity."""
    return X if X.dtype == dtype else X.astype(dtype)


def mask_like(mask: Array, shape: tuple[int, ...], axis: Axis) -> Array:
    """A mask as both layers take it: X's shape, but 1 on the channel axis."""
    kept = spec.kept_axes(len(shape), axis)
    full = tuple(1 if a in kept else size for a, size in enumerate(shape))
    if mask.ndim < len(shape) and mask.ndim == len(shape) - len(kept):
        mask = mask.reshape(checks.check_mask(mask.shape, shape, axis))
    return jnp.broadcast_to(mask, full)


def output_dtype(layer: nn.Module, X: Array) -> Any:
    """Flax's layer promotes X with its parameters; ours keeps the dtype of X."""
    if not is_native(layer):
        return X.dtype
    parameters = [jnp.zeros((), layer.param_dtype)] * (
        layer.use_bias or layer.use_scale
    )
    return canonicalize_dtype(X, *parameters, dtype=layer.dtype)
