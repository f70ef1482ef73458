"""Run Flax modules in float64, whatever they are made for: there, the same sums in
another order show no difference."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import nnx

from bn_from_scratch.surgery import trees

try:
    from jax import enable_x64
except ImportError:  # before JAX 0.8
    from jax.experimental import (
        enable_x64,  # pyright: ignore[reportAttributeAccessIssue] # newer ones lack it
    )

ERRORS = (TypeError,)  # of dtypes that do not fit
FIELDS = "dtype", "param_dtype"  # what layers cast to; None as their operands are


@contextlib.contextmanager
def arithmetic(wanted: bool = True) -> Iterator[None]:
    """Here JAX has float64, and linen layers compute in it, if that is wanted."""
    if not wanted:
        yield
        return
    with enable_x64(True), nn.intercept_methods(in_float64):
        yield


def in_float64(
    next_call: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    context: nn.module.InterceptorContext,
) -> Any:
    """Call a linen layer as if its user had asked for float64."""
    layer = context.module
    given = {name: getattr(layer, name, None) for name in FIELDS}
    given = {name: dtype for name, dtype in given.items() if is_float(dtype)}
    try:
        for name in given:
            object.__setattr__(layer, name, "float64")  # a module is frozen
        return next_call(*args, **kwargs)
    finally:
        for name, dtype in given.items():
            object.__setattr__(layer, name, dtype)


def widened(tree: Any) -> Any:
    """Arrays in float64, those that count something as they are."""

    def wide(v):
        return jnp.asarray(v, "float64") if is_float(getattr(v, "dtype", None)) else v

    return jax.tree.map(wide, tree)


def is_float(dtype: Any) -> bool:
    return dtype is not None and jnp.issubdtype(dtype, jnp.floating)


def module(model: nnx.Module) -> nnx.Module:
    """A copy of an nnx module in float64."""
    graph, state = nnx.split(model)
    copy = nnx.merge(graph, widened(state))
    for _, node in nnx.iter_graph(copy):
        for name in FIELDS:
            if isinstance(node, nnx.Module) and is_float(getattr(node, name, None)):
                setattr(node, name, jnp.dtype("float64"))
    return copy


def arrays(Y: Any) -> dict[str, np.ndarray]:
    """What a module answers: {place: array}."""
    return trees.flat(jax.tree.leaves(Y) or Y, as_array)


def as_array(v: Any) -> np.ndarray | None:
    """An array or a number as NumPy; None for what is none."""
    is_number = isinstance(v, (bool, int, float, complex, np.ndarray, np.generic))
    is_array = isinstance(v, jax.Array) and not jnp.issubdtype(
        v.dtype, jax.dtypes.extended
    )
    return np.asarray(v) if is_number or is_array else None


def dtype_of(tree: Any) -> str:
    """The least exact floating dtype of a tree's arrays: "float32"."""
    dtypes = {v.dtype for v in jax.tree.leaves(tree) if hasattr(v, "dtype")}
    floats = {v for v in dtypes if is_float(v)}
    least = max(floats, key=lambda v: jnp.finfo(v).eps, default="float32")
    return jnp.dtype(least).name
