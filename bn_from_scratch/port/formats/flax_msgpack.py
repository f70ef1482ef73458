"""Flax: `flax.serialization.to_bytes(variables)`, a tree of {"params", "batch_stats"}.

The same tree, flattened by dots, is what a .safetensors of Flax holds.  Of nnx, which
has no collections, a pure dict (`nnx.to_pure_dict`) is read.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bn_from_scratch import backends, reading
from bn_from_scratch.port import names, words
from bn_from_scratch.port.content import OURS, Content

FRAMEWORK = "jax"
KINDS = ("params", "batch_stats")


def read(path: Path) -> Content:
    backends.load(FRAMEWORK)
    from flax import serialization

    with reading.door("Flax cannot read it"):
        tree: Any = serialization.msgpack_restore(Path(path).read_bytes())
    if nnx := _of_nnx(tree):
        return names.split(nnx, FRAMEWORK)
    variables, beside = _variables(tree)
    content = from_flat(names.unique(_leaves(variables)))
    return replace(content, left=(*content.left, *beside))


def write(path: Path, content: Content) -> None:
    from flax import serialization

    tree = {}
    for name, array in to_flat(content).items():
        *place, own = name.split(".")
        node = tree
        for key in place:
            node = node.setdefault(key, {})
            if not isinstance(node, dict):
                raise ValueError(f"{name} would be inside an array: rename its layer")
        node[own] = array
    Path(path).write_bytes(serialization.msgpack_serialize(tree))


def save_model(trainer: Any, path: Path) -> None:
    from flax import serialization

    Path(path).write_bytes(serialization.to_bytes(trainer.variables))


def _of_nnx(tree):
    """{dotted path: array} of the state of an nnx module; {} for anything else.

    Its statistics stand beside the parameters, not in collections.
    """
    if not isinstance(tree, dict) or tree.keys() & {*KINDS}:
        return {}
    flat = names.unique(_leaves(tree))
    if any(f".{kind}." in f".{name}" for name in flat for kind in KINDS):
        return {}
    statistics, layers = {*words.NAMES[FRAMEWORK][2:]}, names.by_layer(flat).values()
    return flat if any(statistics <= own.keys() for own in layers) else {}


def _variables(tree):
    """The variables, at the top or under one key, and the keys beside that."""
    if _are_variables(tree):
        return tree, ()
    inner = tree if isinstance(tree, dict) else {}
    found = [key for key, value in inner.items() if _are_variables(value)]
    if len(found) != 1:
        keys = f"; it holds {', '.join(map(str, inner))}" if inner else ""
        raise ValueError(f"it holds no {{'params': ..., 'batch_stats': ...}}{keys}")
    return inner[found[0]], [key for key in inner if key != found[0]]


def _are_variables(tree):
    """Without gamma and beta there are no "params"."""
    return isinstance(tree, dict) and any(isinstance(tree.get(k), dict) for k in KINDS)


def from_flat(flat: dict[str, np.ndarray]) -> Content:
    """A `Content` from {"params.bn1.scale": array, "batch_stats.bn1.mean": ...}."""
    ours, left = [], []
    for name, array in flat.items():
        kind, _, rest = name.partition(".")
        if kind in KINDS:
            ours.append((name, rest, array))
        else:
            left.append(name)
    content = names.split(names.unique(ours), FRAMEWORK)
    return replace(content, left=(*content.left, *left))


def to_flat(content: Content) -> dict[str, np.ndarray]:
    """The inverse of `from_flat`."""
    flat, theirs = {}, words.NAMES[FRAMEWORK]
    moving = {*theirs[2:], *OURS[2:]}
    for name, array in names.flatten(content).items():
        kind = "batch_stats" if name.rpartition(".")[2] in moving else "params"
        if name in content.others:
            name = name.removesuffix("weight") + "kernel" * name.endswith("weight")
        flat[f"{kind}.{name}"] = array
    return flat


def _leaves(tree, path=()):
    """(keys joined by slashes, by dots, value) of each leaf of nested dicts."""
    for key, value in tree.items():
        place = (*path, str(key))
        if isinstance(value, dict):
            yield from _leaves(value, place)
        else:
            yield "/".join(place), ".".join(place), value
