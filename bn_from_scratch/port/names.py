"""From the flat names of a file, "block.bn.running_mean", to batch norms, and back."""

from collections.abc import Iterable
from typing import TypeVar

import numpy as np

from bn_from_scratch.port import floats, words
from bn_from_scratch.port.content import Content, Norm

COUNTER = "num_batches_tracked"
RENAMED = {"kernel": "weight"}  # of the layers that are not batch norms
T = TypeVar("T")


def unique(entries: Iterable[tuple[str, str, T]]) -> dict[str, T]:
    """{new name: value} from (name in the file, new name, value).

    ValueError where two names of the file become one: a layer would be lost.

    >>> unique([("a/b", "a/b", 1), ("a.b", "a.b", 2)])
    {'a/b': 1, 'a.b': 2}
    >>> unique([("a/b", "a.b", 1), ("a.b", "a.b", 2)])
    Traceback (most recent call last):
    ValueError: two names must stay two; a/b and a.b would both be a.b: rename one
    """
    found, origins = {}, {}
    for name, new, value in entries:
        if new in found:
            raise ValueError(
                f"two names must stay two; {origins[new]} and {name} would both be "
                f"{new or 'one without a name'}: rename one"
            )
        found[new], origins[new] = value, name
    return found


def dotted(flat: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """With dots for the slashes of names that slashes separate.

    Each does so whose last separator is a slash; in "a/b.weight" it is part of a name.
    """
    return unique((name, _dotted(name), array) for name, array in flat.items())


def _dotted(name):
    slashes = name.rfind("/") > name.rfind(".")
    return name.replace("/", ".") if slashes else name


def split(flat: dict[str, np.ndarray], framework: str) -> Content:
    """A `Content` from {dotted name: array}.

    A batch norm is what has a moving mean and a moving variance.
    """
    norms, others, left = {}, {}, []
    kinds = tuple(sorted({*filter(None, map(floats.narrow, flat.values()))}))
    flat = {name: floats.widened(array) for name, array in flat.items()}
    for path, own in by_layer(flat).items():
        if (scratch := _scratch(own, framework)) is None:
            new = {k: RENAMED.get(k, k) for k in own}
            new |= {k: k for k, v in new.items() if v != k and v in own}  # it has both
            others |= {_joined(path, new[k]): v for k, v in own.items()}
            continue
        norms[path] = make_norm(own, words.names(framework, scratch), scratch)
        known = {*norms[path].own, COUNTER}
        left += [_joined(path, name) for name in own if name not in known]
    return Content(framework, norms, others, tuple(left), narrow=kinds)


def by_layer(flat: dict[str, T]) -> dict[str, dict[str, T]]:
    """{path: {own name: array}}: what a layer has is one dot below it."""
    split = {name: name.rpartition(".") for name in flat}
    unique((name, _joined(path, own), None) for name, (path, _, own) in split.items())
    layers = {}
    for name, (path, _, own) in split.items():
        layers.setdefault(path, {})[own] = flat[name]
    return layers


def make_norm(
    own: dict[str, np.ndarray], theirs: dict[str, str], scratch: bool
) -> Norm:
    """A `Norm` from what the file has for one layer."""
    state = {k: np.asarray(own[v]) for k, v in theirs.items() if v in own}
    kept = {name: own[name] for name in theirs.values() if name in own}
    return Norm(state, kept, scratch, batches=_count(own))


def _count(own):
    """How many batches PyTorch counted; None where it is not said."""
    if COUNTER not in own:
        return None
    count = np.asarray(own[COUNTER])
    if count.size != 1 or not np.isrealobj(count) or not count.item() >= 0:
        raise ValueError(f"{COUNTER} must be one number, 0 or more; it is {count}")
    return int(count.item())


def flatten(content: Content) -> dict[str, np.ndarray]:
    """The inverse of `split`: {dotted name in the words of the framework: array}."""
    flat = {}
    for path, norm in content.norms.items():
        theirs = words.names(content.framework, norm.scratch)
        flat |= {_joined(path, theirs[name]): v for name, v in norm.full().items()}
        if content.framework == "torch" and not norm.scratch:
            flat[_joined(path, COUNTER)] = np.array(norm.batches or 0, np.int64)
    return flat | content.others


def _joined(path, name):
    """A bare layer, saved without a model around it, has no path."""
    return f"{path}.{name}" if path else name


def _scratch(own, framework):
    """Is it our layer (True), the framework's own (False), or no batch norm (None)?"""
    for scratch in (False, True):
        theirs = words.names(framework, scratch)
        if {theirs["moving_mean"], theirs["moving_var"]} <= own.keys():
            return scratch
    return None
