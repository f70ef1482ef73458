"""State of shape (): MXNet's own Parameter and initializers write to arr[:] alone."""

from typing import Any

import mxnet
from mxnet import gluon
from mxnet.numpy import ndarray

NOT_LEARNED: dict[str, Any] = {"grad_req": "null", "differentiable": False}


class Fill(mxnet.init.Initializer):
    """The same number everywhere, in full precision."""

    value: Any  # a number

    def __init__(self, value: Any) -> None:
        super().__init__(value=value)
        self.value = value

    def _init_weight(self, desc: Any, arr: ndarray) -> None:
        arr[()] = self.value


class Scalar(gluon.Parameter):
    """A Parameter that is a number."""

    def set_data(self, data: Any) -> None:
        """Write the number on every context."""
        for v in self.list_data():
            v[()] = data
