"""Groups and arrays of an HDF5 file, and only what is in that file itself."""

import re
import struct
from typing import Any

import numpy as np

from bn_from_scratch import reading

HEAP = b"GCOL\x01\0\0\0"  # how a heap of strings begins


def check_heaps(blob: bytes) -> None:
    """Raise ValueError where HDF5 would search a heap of strings for ever.

    A heap is HEAP, its size, and objects: a number, 6 bytes, a size, content.  Number 0
    is the free space, whose size counts its own 16 bytes; with less, HDF5 stays there.
    """
    for found in re.finditer(re.escape(HEAP), blob):
        place = found.start() + 16
        end = found.start() + int.from_bytes(blob[place - 8 : place], "little")
        while place + 16 <= min(end, len(blob)):
            number, size = struct.unpack_from("<H6xQ", blob, place)
            step = 16 + -(-size // 8) * 8 if number else size
            if step < 16:
                raise ValueError("HDF5 cannot read it: a heap of strings is broken")
            place += step


def check_tree(file: Any, path: Any) -> None:
    """Raise ValueError where a group or an array has two places in the file.

    A few links could make a tree without end, or of any size. TooLarge where the arrays
    together have more bytes than the limit.
    """
    import h5py

    size, left = 0, [file["/"]]
    seen = {*left}  # h5py's objects are equal where their places in the file are
    while left:
        group = left.pop()
        for key in group:
            if not isinstance(group.get(key, getlink=True), h5py.HardLink):
                continue
            found = group[key]
            if found in seen:
                raise ValueError(f"{found.name} has two places in the file")
            seen.add(found)
            if isinstance(found, h5py.Group):
                left.append(found)
            elif isinstance(found, h5py.Dataset):
                size += found.nbytes
    reading.check_size(size, f"{path}, unpacked,")


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
