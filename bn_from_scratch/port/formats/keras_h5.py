"""The HDF5 file of Keras's weights: arrays without names, in the order of a layer.

A batch norm has gamma, beta, moving mean, moving variance; with center=False or
scale=False three of them, and only a description of the layer says which is absent.
"""

from collections import Counter
from typing import Any

from bn_from_scratch.port import floats, names, words
from bn_from_scratch.port.content import NEUTRAL, OURS, Content, Norm
from bn_from_scratch.port.formats import hdf5, keras_config

LAYERS = "layers"  # where a model keeps its layers, under the names of their classes
OPTIMIZER = "optimizer"  # beside them, with vectors as long as theirs
TOLD = {"epsilon", "momentum", "center", "scale"}  # what makes a layer of Keras
EXTRAS = ("renorm", "virtual_batch_size", "adjustment", "synchronized")
MORE = ("correction", "statistics")  # what only our layer can be told
NATIVE, SCRATCH = "batch_normalization", "batch_norm"


def content(
    file: Any,
    size: int,
    said: keras_config.Description,
    lacking: dict[str, str],
    absent: str | None,
) -> Content:
    """A `Content` from an open file of `size` bytes and the description of its model.

    lacking: by path, the parameter that a layer has not; absent: that of the others.
    """
    norms, others, left, unknown, narrow = {}, {}, [], {}, set()
    layers = names.unique(_layers(file, size, said))
    for path, (kind, arrays, said) in layers.items():
        narrow |= {*filter(None, map(floats.narrow, arrays))}
        arrays = [*map(floats.widened, arrays)]
        if _is_norm(kind, said, arrays):
            norms[path], more = _norm(
                path, kind, said, arrays, lacking.get(path, absent)
            )
            left += [f"{path}.{i}" for i in more]
            left += [f"{path}.{name}" for name in extras(said)]
        elif _is_unknown_norm(said):
            unknown[path] = said["class_name"]
        else:  # a convolution or a dense layer, or a LeNet is not made of it
            own = ("weight", "bias")
            others |= {f"{path}.{n}": v for n, v in zip(own, arrays, strict=False)}
            left += [f"{path}.{i}" for i in range(2, len(arrays))]
    left += [OPTIMIZER] if hdf5.child(file, OPTIMIZER) is not None else []
    kinds = tuple(sorted(narrow))
    return Content("tensorflow", norms, others, tuple(left), unknown, kinds)


def norm_of(
    said: keras_config.Description,
    state: dict[str, Any],
    own: dict[str, Any],
    scratch: bool,
) -> Norm:
    """A `Norm` of these arrays, with the settings that its description says."""
    config = said.get("config", {})
    momentum = config.get("momentum")
    if scratch:
        eps, more = config.get("eps"), {k: config[k] for k in MORE if k in config}
    else:
        eps, more = config.get("epsilon"), {}
        momentum = None if momentum is None else words.complement(momentum)
    whole = config if config.keys() >= TOLD else None
    return Norm(state, own, scratch, eps, momentum, config=whole, **more)


def extras(said: keras_config.Description) -> list[str]:
    """What a layer does in training beside plain batch normalization."""
    config = said.get("config", {})
    pooled = ["momentum=None"] * (config.get("momentum", 0) is None)
    return pooled + [name for name in EXTRAS if config.get(name)]


def _is_norm(kind, said, arrays):
    """By its description; else four equal vectors, or fewer in a layer of that name."""
    if said:
        return keras_config.is_norm(said)
    vectors = [v.shape for v in arrays if v.ndim == 1]
    equal = len(vectors) >= 2 and len({*vectors[:4]}) == 1
    return equal and (len(vectors) >= 4 or kind.startswith(SCRATCH))


def _is_unknown_norm(said):
    """Has it the settings of a batch norm?  It may compute more than one."""
    config = said.get("config", {})
    return {"momentum"} < config.keys() & {"momentum", "epsilon", "eps"}


def _norm(path, kind, said, arrays, absent):
    """A `Norm`, and the places of the arrays that it does not need."""
    scratch = keras_config.is_scratch(said) or (
        not said and kind.startswith(SCRATCH) and not kind.startswith(NATIVE)
    )
    present = (*_present(path, said, arrays, absent), *OURS[2:])
    if len(arrays) < len(present):
        raise ValueError(
            f"{path} must have {len(present)} arrays; it has {len(arrays)}"
        )
    state = dict(zip(present, arrays, strict=False))
    own = {str(i): v for i, v in enumerate(state.values())}
    return norm_of(said, state, own, scratch), range(len(state), len(arrays))


def _present(path, said, arrays, absent):
    """Which of gamma and beta the layer has."""
    if said:
        flags = {"gamma": "scale", "beta": "center"}
        return [name for name, flag in flags.items() if said["config"].get(flag, True)]
    if len(arrays) == 3 and absent is None:
        raise ValueError(
            f"{path} has three vectors, and nothing says whether gamma or beta is "
            "absent: give it, or save the whole model as .keras"
        )
    missing = {2: ("gamma", "beta"), 3: (absent,)}.get(len(arrays), ())
    return [name for name in NEUTRAL if name not in missing]


def _layers(group, size, said, path=(), container=None, counts=None):
    """The layers that have arrays, in the order of the file: the group, the path, and
    (the class, the arrays, the description).

    said: the description of what the group holds.  container: the name of the list
    that the group is.  counts: of the names of what the layer holds.  A layer is known
    by its name where a model holds it, else by its place.
    """
    counts = counts or Counter(_names_in(group))
    own = hdf5.child(group, "vars")
    if own is not None and len(own) and all(map(str.isdigit, own)):
        arrays = [hdf5.array(own, key, size) for key in sorted(own, key=int)]
        kind = group.name.rpartition("/")[2]
        yield group.name, ".".join(path), (kind, arrays, said)
    for key in group:
        child = hdf5.child(group, key)
        if key == "vars" or child is None or child.name == f"/{OPTIMIZER}":
            continue
        if (inner := hdf5.child(child, "vars")) is None:  # a list
            place = path if key == LAYERS else (*path, key)
            yield from _layers(child, size, said, place, key, counts)
            continue
        name = inner.attrs.get("name")
        found = keras_config.find(said, key, name, counts[name], container)
        if container == LAYERS:
            name = name or (keras_config.name_of(found) if found else key)
        else:
            name = key
        yield from _layers(child, size, found, (*path, name))


def _names_in(group):
    """The names of the layers that one holds, itself or in lists; None for no name."""
    for key in group:
        child = hdf5.child(group, key)
        if key == "vars" or child is None:
            continue
        if (inner := hdf5.child(child, "vars")) is None:
            yield from _names_in(child)
        else:
            yield inner.attrs.get("name")
