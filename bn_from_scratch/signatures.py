"""The signature of a variant: the arguments of the layer, then its own."""

import inspect
import typing
from collections.abc import Callable
from typing import Any

Parameters = dict[str, inspect.Parameter]


def sign(cls: Any, layer: type) -> None:
    """Give a class under `layer` the signature that `help` and `inspect` show."""
    inner = taken = named(layer.__init__)
    for base in reversed(cls.__mro__[: cls.__mro__.index(layer)]):
        if "__init__" in vars(base):
            inner = with_handed_on(vars(base)["__init__"], inner, taken)
    in_order = sorted(inner.values(), key=lambda p: p.kind)
    cls.__signature__ = inspect.Signature(in_order)


def with_handed_on(init: Callable, inner: Parameters, taken: Parameters) -> Parameters:
    """What a constructor takes that hands `**options` on to one that takes `inner`.

    `Unpack[T]` says that of what the layer has `taken` only the keys of T may be given.
    """
    own, rest = named(init), of_kind(init, inspect.Parameter.VAR_KEYWORD)
    if rest is None:
        return own
    for options in typing.get_args(rest.annotation):
        known = options.__annotations__
        inner = {k: p for k, p in inner.items() if k in known or k not in taken}
    if of_kind(init, inspect.Parameter.VAR_POSITIONAL) is None:
        by_name = inspect.Parameter.KEYWORD_ONLY
        inner = {k: p.replace(kind=by_name) for k, p in inner.items()}
    first = {k: p for k, p in own.items() if p.kind is not p.KEYWORD_ONLY}
    return first | inner | own


def named(init: Callable) -> Parameters:
    """The parameters of a constructor that have a name of their own, but for self."""
    several = inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD
    _, *parameters = inspect.signature(init).parameters.values()
    return {p.name: p for p in parameters if p.kind not in several}


def of_kind(init: Callable, kind: Any) -> inspect.Parameter | None:
    """The `*args` or the `**options` of a constructor, or None."""
    parameters = inspect.signature(init).parameters.values()
    return next((p for p in parameters if p.kind is kind), None)
