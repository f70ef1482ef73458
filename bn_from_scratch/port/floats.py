"""Floats of 16 bits, read as float32, which holds each of them exactly."""

import numpy as np

OPAQUE = np.dtype("V2")  # two bytes: what bfloat16 is to NumPy, which has none


def narrow(array: np.ndarray) -> str | None:
    """ "float16" or "bfloat16"; None for another dtype."""
    name = np.asarray(array).dtype.name
    name = {"void16": "bfloat16"}.get(name, name)
    return name if name in ("float16", "bfloat16") else None


def widened(array: np.ndarray) -> np.ndarray:
    """Float32 for floats of 16 bits; any other array as it is.

    >>> halves = np.array([1.5, -2], np.float16)
    >>> widened(halves).tolist(), widened(halves).dtype.name
    ([1.5, -2.0], 'float32')
    """
    array, name = np.asarray(array), narrow(array)
    if name == "float16":
        return array.astype(np.float32)
    if name == "bfloat16":  # the upper half of a float32
        bits = np.ascontiguousarray(array).view(np.uint16).astype(np.uint32)
        return (bits << 16).view(np.float32)
    return array
