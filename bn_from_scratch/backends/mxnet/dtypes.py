"""MXNet takes no two dtypes together, and its layers take arrays of mx.np alone."""

from typing import Any

import numpy
from mxnet.numpy import ndarray

from bn_from_scratch import checks

ARRAY = "an array of mx.np (`v.as_np_ndarray()` makes one of mx.nd's)"


def check_array(name: str, v: Any) -> None:
    """Raise TypeError unless v is an array of mx.np."""
    checks.check_kind(name, v, ndarray, ARRAY)


def wider(dtype: Any) -> str:
    """float32, or float64 if it is that."""
    return "float64" if str(numpy.dtype(dtype)) == "float64" else "float32"


def like(v: ndarray, other: Any) -> Any:
    """The other in the dtype of v; a number is of any."""
    is_array = isinstance(other, ndarray)
    return other.astype(v.dtype, copy=False) if is_array else other
