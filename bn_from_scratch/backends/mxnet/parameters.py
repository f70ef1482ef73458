"""State of shape (): MXNet's own Parameter and initializers write to arr[:] alone."""

import mxnet
from mxnet import gluon

NOT_LEARNED = {"grad_req": "null", "differentiable": False}


class Fill(mxnet.init.Initializer):
    """The same number everywhere, in full precision."""

    def __init__(self, value):
        super().__init__(value=value)
        self.value = value

    def _init_weight(self, desc, arr):
        arr[()] = self.value


class Scalar(gluon.Parameter):
    """A Parameter that is a number."""

    def set_data(self, data):
        for v in self.list_data():
            v[()] = data
