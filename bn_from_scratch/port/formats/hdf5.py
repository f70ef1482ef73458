"""Groups and arrays of an HDF5 file, and only what is in that file itself."""

from typing import Any

import numpy as np


def child(group: Any, key: str, kind: Any = None) -> Any:
    """What is in this file under the key; None for a link to elsewhere, or nothing.

    key: may be several, separated by slashes.  kind: of what is wanted; else a group.
    """
    import h5py

    for step in filter(None, key.split("/")):
        if not isinstance(group, h5py.Group):
            return None
        if not isinstance(group.get(step, getlink=True), h5py.HardLink):
            return None
        group = group[step]
    return group if isinstance(group, kind or h5py.Group) else None


def array(group: Any, key: str, size: int) -> np.ndarray:
    """An array whose values are in this file of `size` bytes; ValueError otherwise."""
    import h5py

    dataset = child(group, key, h5py.Dataset)
    if (
        dataset is None
        or dataset.external
        or dataset.is_virtual
        or dataset.nbytes > size
    ):
        raise ValueError(f"{group.name}/{key} is not in the file")
    return np.asarray(dataset)


def strings(group: Any, name: str) -> list[str]:
    """An attribute that is a list of texts; Keras cuts a long one into name0, ..."""
    parts = [name] if name in group.attrs else []
    while (part := f"{name}{len(parts)}") in group.attrs:
        parts.append(part)
    return [text(entry) for part in parts for entry in group.attrs[part]]


def text(value: Any) -> str:
    """An attribute that is a text, whichever way it is kept."""
    return value.decode() if isinstance(value, bytes) else str(value)
