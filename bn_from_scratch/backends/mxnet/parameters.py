"""Parameters of at least float32, some of shape (), to which MXNet cannot write."""

from typing import Any

import mxnet
import numpy
from mxnet import gluon
from mxnet.numpy import ndarray

from bn_from_scratch.backends.mxnet.dtypes import wider

NOT_LEARNED: dict[str, Any] = {"grad_req": "null", "differentiable": False}


class Fill(mxnet.init.Initializer):
    """The same number everywhere, in full precision."""

    value: Any  # a number

    def __init__(self, value: Any) -> None:
        super().__init__(value=value)
        self.value = value

    def _init_weight(self, desc: Any, arr: ndarray) -> None:
        arr[()] = self.value


class Wide(gluon.Parameter):
    """A Parameter of which no cast, and no file, makes 16 bits."""

    def cast(self, dtype: Any) -> None:
        """Also what assigning to `dtype` does, and `Block.cast`."""
        super().cast(wider(dtype))

    def _load_init(self, data: Any, *args: Any, **kwargs: Any) -> None:
        """`load_parameters(cast_dtype=True, dtype_source="saved")` takes the file's."""
        super()._load_init(widened(data), *args, **kwargs)


def widened(data: Any) -> Any:
    """An array in float32 at least."""
    narrow = numpy.dtype(data.dtype).itemsize < 4
    return data.astype("float32") if narrow else data


class Scalar(Wide):
    """A Parameter that is a number."""

    def set_data(self, data: Any) -> None:
        """Write the number on every context."""
        for v in self.list_data():
            v[()] = data
