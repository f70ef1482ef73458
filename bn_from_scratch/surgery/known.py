"""Is a layer exactly what its class says?  Of any other, nothing can be promised."""

import dataclasses
import inspect
from collections.abc import Iterable, Mapping
from typing import Any

from bn_from_scratch.surgery.description import Description

OURS = "bn_from_scratch."
# What a subclass may have of its own: it changes no answer.
HARMLESS = {"__init__", "__post_init__", "__new__", "__doc__", "__repr__", "__str__"}
HARMLESS |= {"__eq__", "__hash__", "__init_subclass__", "__class_getitem__"}
HARMLESS |= {"extra_repr", "_get_name", "_check_input_dim", "reset_parameters"}
HARMLESS |= {"reset_running_stats", "get_config", "from_config", "summary"}
HARMLESS |= {"__getstate__", "__setstate__", "__deepcopy__", "__reduce_ex__"}
# What a layer keeps, in the words of the frameworks: a property may compute it.
STATE = {"weight", "bias", "running_mean", "running_var", "scale", "mean", "var"}
STATE |= {"gamma", "beta", "moving_mean", "moving_var", "moving_variance"}


def peculiarity(
    layer: Any, modules: Iterable[str], instance: Iterable[str] = ()
) -> str | None:
    """What a layer does that its known class does not say, in words; None if nothing.

    modules: where the framework defines its batch norms.  instance: what it sets on
    every layer itself, in place of methods.

    >>> class Base:
    ...     def forward(self, X): return X
    >>> class Relu(Base):
    ...     def forward(self, X): return max(X, 0)
    >>> peculiarity(Base(), [__name__]), peculiarity(Relu(), [])
    (None, 'Relu is of no known class')
    """
    name, known = type(layer).__name__, (*modules, OURS)
    mro = type(layer).__mro__
    base = next((cls for cls in mro if cls.__module__.startswith(known)), None)
    if base is None:
        return f"{name} is of no known class"
    theirs = _names(base)
    for cls in mro[: mro.index(base)]:
        own_names = vars(cls).keys() - HARMLESS - _fields(cls)
        for own in sorted(own_names, key=lambda own: own.startswith("__")):
            if own in theirs and _is_behaviour(vars(cls)[own]):
                return f"{name} has a {own} of its own"
    for own in vars(layer).keys() - set(instance):
        if callable(getattr(type(layer), own, None)):
            return f"this {name} has a {own} of its own"
    return None


def _names(cls: type) -> set[str]:
    """What instances of a class have: its methods, fields and arguments."""
    fields = (inspect.get_annotations(base) for base in cls.__mro__)
    init: Any = cls.__init__
    return STATE.union(dir(cls), *fields, inspect.signature(init).parameters)


def _fields(cls: type) -> set[str]:
    """The fields of a dataclass, as in Flax: they hold data, callable or not."""
    return set(inspect.get_annotations(cls)) if dataclasses.is_dataclass(cls) else set()


def _is_behaviour(value: Any) -> bool:
    """A method or a property, not the value of a field."""
    return callable(value) or hasattr(value, "__get__")


def check_known(described: Mapping[str, Description], done: str) -> None:
    """Raise ValueError if a batch norm has behaviour of its own.  done: "folded"."""
    for description in described.values():
        check_one(description, done)


def check_replaced(description: Description, new: str | None) -> None:
    """Raise ValueError unless the peculiarity of a new layer is that of the old one."""
    if new != description.peculiarity:
        check_one(description, "replaced")


def check_one(description: Description, done: str) -> None:
    """The same as `check_known`, of one batch norm."""
    if description.peculiarity:
        raise ValueError(
            f"{description.name} cannot be {done}: it must be exactly a batch norm of "
            f"its framework or of ours; {description.peculiarity}"
        )


def check_any(described: Mapping[str, Any], others: Mapping[str, str]) -> None:
    """Raise ValueError for a model without batch norm.

    others: {path: class} of layers that keep such statistics, but are of no known kind.
    """
    if described:
        return
    for path, kind in others.items():
        raise ValueError(
            "the model must have a batch norm of a known class; "
            f"it has none, and {path or 'it'} is a {kind}"
        )
    raise ValueError("the model must have a batch norm; it has none")
