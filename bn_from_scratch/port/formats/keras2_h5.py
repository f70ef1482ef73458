"""The HDF5 file of Keras 2: `model.save("x.h5")` or `model.save_weights("x.h5")`.

Keras 3 writes the first of them, too.  A group for each layer of the model, in which
arrays have names: "bn/gamma:0".  Those of all that is inside a layer (a model, what a
wrapper holds) are in its group.
"""

from dataclasses import replace
from typing import Any

from bn_from_scratch.port import names
from bn_from_scratch.port.content import Content
from bn_from_scratch.port.formats import hdf5, keras_config, keras_h5

LAYERS, WEIGHTS, VERSION = "layer_names", "weight_names", "keras_version"
MODEL = "model_weights"  # where a whole model has them; weights alone are at the top


def is_one(file: Any) -> bool:
    """Has an open file this layout?"""
    return any(f"{LAYERS}{i}" in _top(file).attrs for i in ("", 0))


def content(file: Any, size: int, said: keras_config.Description) -> Content:
    """A `Content` from an open file of `size` bytes and its model's description."""
    top, flat, described = _top(file), [], {}
    for layer in hdf5.strings(top, LAYERS):
        group = hdf5.child(top, layer)
        if group is None:
            raise ValueError(f"{top.name}/{layer} is not in the file")
        weights = hdf5.strings(group, WEIGHTS)
        for weight in weights:
            place, own = _split(weight)
            alone = len({_split(other)[0] for other in weights}) == 1
            steps = [] if alone else _inner(place, layer)
            path = ".".join([layer, *steps])
            array = hdf5.array(group, weight, size)
            flat.append((weight, f"{path}.{own}", array))
            if path not in described:
                described[path] = _description(said, layer, _inner(place, layer))
    found = names.split(names.unique(flat), "tensorflow")
    norms = {
        path: keras_h5.norm_of(described[path], norm.state, norm.own, norm.scratch)
        for path, norm in found.norms.items()
    }
    left = [
        f"{path}.{name}" for path in norms for name in keras_h5.extras(described[path])
    ]
    mixed = hdf5.text(top.attrs.get(VERSION, "2"))[:1] < "3"
    return replace(found, norms=norms, left=(*found.left, *left), mixed=mixed)


def _top(file):
    return hdf5.child(file, MODEL) or file


def _split(weight):
    """ "bn/gamma:0" -> ("bn", "gamma")."""
    place, _, own = weight.rpartition("/")
    return place, own.partition(":")[0]


def _inner(place, layer):
    """The steps from a layer to what is inside it: "block/bn" -> ["bn"]."""
    if place == layer or place.startswith(f"{layer}/"):
        place = place[len(layer) :]
    return [step for step in place.split("/") if step]


def _description(said, layer, steps):
    """Of the batch norm at these steps inside a layer; {} where none is its own.

    A step may be no layer but a scope of names, unless it is the last.
    """
    found = inner = keras_config.by_name(said, layer) if said else {}
    for step in () if keras_config.is_norm(found) else steps:
        inner = keras_config.by_name(found, step) if found else {}
        found = inner or found
    return keras_config.only_norm(inner)
