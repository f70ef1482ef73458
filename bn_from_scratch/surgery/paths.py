"""The paths of a model's layers: names with dots between them, one for each layer."""

from collections.abc import Iterable
from typing import TypeVar

T = TypeVar("T")


def unique(entries: Iterable[tuple[str, T]]) -> dict[str, T]:
    """{path: layer}; ValueError where two layers have one path: one would be lost.

    A layer "a.b" and the layer "b" in "a" have; so have two of one name in a layer.

    >>> unique([("a.b", object()), ("a.b", object())])
    Traceback (most recent call last):
    ValueError: each layer must have a path of its own; a.b is that of two: rename one
    """
    found = {}
    for path, layer in entries:
        if found.setdefault(path, layer) is not layer:
            raise ValueError(
                f"each layer must have a path of its own; {path} is that of two: "
                "rename one"
            )
    return found
