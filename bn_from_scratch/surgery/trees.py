"""What goes into a model and what comes out: any tree of arrays."""

import dataclasses
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

Arguments = tuple[tuple[Any, ...], dict[str, Any]]


def arguments(X: Any, parameters: Iterable[inspect.Parameter]) -> Arguments:
    """The arguments that a call with X has: by place, by name.

    X: a tuple is several inputs, a dict whose keys are names of `parameters` names
    them; if the function cannot be called so, X is one input.  A list is one input, or
    several where one is too few.

    >>> def forward(a, b=None): ...
    >>> parameters = inspect.signature(forward).parameters.values()
    >>> arguments((1, 2), parameters), arguments({"a": 1, "b": 2}, parameters)
    (((1, 2), {}), ((), {'a': 1, 'b': 2}))
    >>> arguments([1, 2], parameters), arguments({"c": 1}, parameters)
    ((([1, 2],), {}), (({'c': 1},), {}))
    """
    one: Arguments = (X,), {}
    ways = [one]
    if is_written_down(X):
        return one
    if isinstance(X, Mapping):
        named = {p.name for p in parameters}
        ways = [((), dict(X)), one] if X.keys() <= named else [one]
    elif isinstance(X, tuple):
        ways = [(X, {}), one]
    elif isinstance(X, list):
        ways = [one, (tuple(X), {})]
    signature = inspect.Signature(list(parameters))
    return next((way for way in ways if _binds(signature, way)), ways[0])


def _binds(signature: inspect.Signature, way: Arguments) -> bool:
    """Can a function be called so?"""
    try:
        signature.bind(*way[0], **way[1])
    except TypeError:
        return False
    return True


def mapped(function: Callable[[Any], Any], tree: Any) -> Any:
    """A tree of the same dicts, tuples and lists, with `function(leaf)` for each.

    A list or tuple of numbers is a leaf: an array that is written down.
    """
    if isinstance(tree, Mapping):
        return {name: mapped(function, v) for name, v in tree.items()}
    if isinstance(tree, (list, tuple)) and not is_written_down(tree):
        values = [mapped(function, v) for v in tree]
        if hasattr(tree, "_fields"):
            return type(tree)(*values)
        return tuple(values) if isinstance(tree, tuple) else values
    return tree if tree is None or isinstance(tree, (str, bool)) else function(tree)


def is_written_down(tree: Any) -> bool:
    """Is it a number, or a list or tuple of nothing but numbers?"""
    if isinstance(tree, (list, tuple)):
        return bool(tree) and all(map(is_written_down, tree))
    return isinstance(tree, (int, float)) and not isinstance(tree, bool)


def flat(tree: Any, as_array: Callable[[Any], Any]) -> dict[str, np.ndarray]:
    """{place: array} of every array in a tree of dicts, tuples, lists and dataclasses.

    as_array: an array of the framework -> of NumPy; None for what is none.  ValueError
    for a tree without any.

    >>> flat((np.ones(1), {"more": None, "a": [np.zeros(2)]}), np.asarray)
    {'0': array([1.]), '1.a.0': array([0., 0.])}
    """
    leaves = ((place, as_array(v)) for place, v in _leaves("", tree))
    found = {place: array for place, array in leaves if array is not None}
    if not found:
        raise ValueError(
            "the model must answer with arrays, in dicts, tuples or dataclasses; "
            f"it answers with {type(tree).__name__}"
        )
    return found


def _leaves(place: str, tree: Any) -> Iterator[tuple[str, Any]]:
    """Each leaf of a tree, with its place: "1.a.0"."""
    for name, child in _children(tree):
        yield from _leaves(f"{place}.{name}" if place else str(name), child)
    if tree is not None and not _is_node(tree):
        yield place, tree


def _is_node(tree: Any) -> bool:
    is_data = dataclasses.is_dataclass(tree) and not hasattr(tree, "__array__")
    return isinstance(tree, (Mapping, tuple, list)) or is_data


def _children(tree: Any) -> Iterable[tuple[Any, Any]]:
    if not _is_node(tree):
        return ()
    if isinstance(tree, Mapping):
        return tree.items()
    if isinstance(tree, (tuple, list)):
        return enumerate(tree)
    return ((f.name, getattr(tree, f.name)) for f in dataclasses.fields(tree))
