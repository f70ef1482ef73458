"""From the flat names of a file, "block.bn.running_mean", to batch norms, and back."""

import numpy as np

from bn_from_scratch.port import words
from bn_from_scratch.port.content import Content, Norm

COUNTER = "num_batches_tracked"
RENAMED = {"kernel": "weight"}  # of the layers that are not batch norms


def split(flat: dict[str, np.ndarray], framework: str) -> Content:
    """A `Content` from {dotted name: array}; what a layer has is one dot below it.

    A batch norm is what has a moving mean and a moving variance.
    """
    layers = {}
    for name, array in flat.items():
        path, _, own = name.rpartition(".")
        layers.setdefault(path, {})[own] = array
    norms, others, left = {}, {}, []
    for path, own in layers.items():
        if (scratch := _scratch(own, framework)) is None:
            others |= {_joined(path, RENAMED.get(k, k)): v for k, v in own.items()}
            continue
        norms[path] = make_norm(own, words.names(framework, scratch), scratch)
        known = {*norms[path].own, COUNTER}
        left += [_joined(path, name) for name in own if name not in known]
    return Content(framework, norms, others, tuple(left))


def make_norm(
    own: dict[str, np.ndarray], theirs: dict[str, str], scratch: bool
) -> Norm:
    """A `Norm` from what the file has for one layer."""
    state = {k: np.asarray(own[v]) for k, v in theirs.items() if v in own}
    kept = {name: v for name, v in own.items() if name in theirs.values()}
    batches = int(own[COUNTER]) if COUNTER in own else None
    return Norm(state, kept, scratch, batches=batches)


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
