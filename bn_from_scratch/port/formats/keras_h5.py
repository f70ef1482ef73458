"""The HDF5 file of Keras's weights: arrays without names, in the order of a layer.

A batch norm has gamma, beta, moving mean, moving variance; with center=False or
scale=False three of them, and only a description of the layer says which is absent.
"""

from typing import Any

import numpy as np

from bn_from_scratch.port import names, words
from bn_from_scratch.port.content import NEUTRAL, OURS, Content, Norm

LAYERS = "layers"  # where a model keeps its layers, under the names of their classes
NATIVE, SCRATCH = "batch_normalization", "batch_norm"


def content(
    file: Any,
    size: int,
    configs: dict[str, Any],
    lacking: dict[str, str],
    absent: str | None,
) -> Content:
    """A `Content` from an open file of `size` bytes and what is said of its layers.

    configs: their descriptions; lacking: the parameter they have not, both by path;
    absent: that of the others.
    """
    norms, others, left = {}, {}, []
    layers = names.unique(_layers(file, size))
    for path, (kind, arrays) in layers.items():
        said = configs.get(path, {})
        if _is_norm(kind, said, arrays):
            norms[path], more = _norm(
                path, kind, said, arrays, lacking.get(path, absent)
            )
            left += [f"{path}.{i}" for i in more]
        else:  # a convolution or a dense layer, or a LeNet is not made of it
            own = ("weight", "bias")
            others |= {f"{path}.{n}": v for n, v in zip(own, arrays, strict=False)}
            left += [f"{path}.{i}" for i in range(2, len(arrays))]
    return Content("tensorflow", norms, others, tuple(left))


def _is_norm(kind, said, arrays):
    """By its description; else four equal vectors, or fewer in a layer of that name."""
    if said:
        return said.get("class_name") in ("BatchNormalization", "BatchNorm")
    vectors = [v.shape for v in arrays if v.ndim == 1]
    equal = len(vectors) >= 2 and len({*vectors[:4]}) == 1
    return equal and (len(vectors) >= 4 or kind.startswith(SCRATCH))


def _norm(path, kind, said, arrays, absent):
    """A `Norm`, and the places of the arrays that it does not need."""
    config = said.get("config", {})
    scratch = said.get("class_name") == "BatchNorm" or (
        not said and kind.startswith(SCRATCH) and not kind.startswith(NATIVE)
    )
    present = (*_present(path, config, arrays, absent), *OURS[2:])
    if len(arrays) < len(present):
        raise ValueError(
            f"{path} must have {len(present)} arrays; it has {len(arrays)}"
        )
    state = dict(zip(present, arrays, strict=False))
    own = {str(i): v for i, v in enumerate(state.values())}
    eps, momentum = _settings(config, scratch)
    norm = Norm(state, own, scratch, eps, momentum, config=config or None)
    return norm, range(len(state), len(arrays))


def _present(path, config, arrays, absent):
    """Which of gamma and beta the layer has."""
    if config:
        flags = {"gamma": config["scale"], "beta": config["center"]}
        return [name for name, flag in flags.items() if flag]
    if len(arrays) == 3 and absent is None:
        raise ValueError(
            f"{path} has three vectors, and nothing says whether gamma or beta is "
            "absent: give it, or save the whole model as .keras"
        )
    missing = {2: ("gamma", "beta"), 3: (absent,)}.get(len(arrays), ())
    return [name for name in NEUTRAL if name not in missing]


def _settings(config, scratch):
    """eps and momentum in our words; None for what is not said."""
    if not config:
        return None, None
    if scratch:
        return config["eps"], config["momentum"]
    return config["epsilon"], words.complement(config["momentum"])


def _layers(group, size, path=(), container=False):
    """The layers that have arrays, in the order of the file: its group, the path, and
    (the class, the arrays).

    A layer is known by its name where a model holds it, else by its place.
    """
    own = _child(group, "vars")
    if own is not None and len(own) and all(map(str.isdigit, own)):
        kind = group.name.rpartition("/")[2]
        yield group.name, ".".join(path), (kind, _arrays(own, size))
    for key in group:
        child = _child(group, key)
        if key == "vars" or child is None:
            continue
        if key == LAYERS and _child(child, "vars") is None:
            yield from _layers(child, size, path, container=True)
            continue
        inner = _child(child, "vars")
        name = inner.attrs.get("name", key) if container and inner is not None else key
        yield from _layers(child, size, (*path, name))


def _child(group, key, kind=None):
    """What is in this file under the key; a link to elsewhere is not followed."""
    import h5py

    if not isinstance(group.get(key, getlink=True), h5py.HardLink):
        return None
    child = group[key]
    return child if isinstance(child, kind or h5py.Group) else None


def _arrays(group, size):
    """The arrays "0", "1", ... of a layer, if their values are in this file."""
    import h5py

    arrays = []
    for key in sorted(group, key=int):
        dataset = _child(group, key, h5py.Dataset)
        if (
            dataset is None
            or dataset.external
            or dataset.is_virtual
            or dataset.nbytes > size
        ):
            raise ValueError(f"{group.name}/{key} is not in the file")
        arrays.append(np.asarray(dataset))
    return arrays
