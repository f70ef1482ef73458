"""MXNet takes no two dtypes together, and its layers take arrays of mx.np alone."""

from typing import Any

from mxnet.numpy import ndarray

from bn_from_scratch import checks

ARRAY = "an array of mx.np (`v.as_np_ndarray()` makes one of mx.nd's)"


def check_array(name: str, v: Any) -> None:
    """Raise TypeError unless v is an array of mx.np."""
    checks.check_kind(name, v, ndarray, ARRAY)


def like(v: ndarray, other: Any) -> Any:
    """The other in the dtype of v; a number is of any."""
    is_array = isinstance(other, ndarray)
    return other.astype(v.dtype, copy=False) if is_array else other
