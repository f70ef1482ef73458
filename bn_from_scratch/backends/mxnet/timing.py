"""Any norm layer of Gluon, ready to be timed: forward, and forward with backward."""

from collections.abc import Callable

import mxnet
import numpy
from mxnet import autograd, np
from mxnet.gluon import Block
from mxnet.numpy import ndarray


def prepare(
    layer: Block, X: numpy.ndarray, dY: numpy.ndarray
) -> tuple[Callable[[], ndarray], Callable[[], None]]:
    """Two functions of nothing, for X and the cotangent dY, NumPy [N, C, *].

    `forward()` returns the output and whatever holds what backward needs; `step()` does
    one forward and one backward pass in training, and returns when both are done.
    """
    leaf, cotangent = (np.array(v, dtype=v.dtype) for v in (X, dY))
    leaf.attach_grad()
    layer.initialize()
    if isinstance(layer, mxnet.gluon.HybridBlock):
        layer.hybridize(static_alloc=True)

    def forward() -> ndarray:
        with autograd.record():
            Y = layer(leaf)
        mxnet.nd.waitall()
        return Y

    def step() -> None:
        with autograd.record():
            Y = layer(leaf)
        Y.backward(cotangent)
        mxnet.nd.waitall()  # MXNet computes behind Python's back

    return forward, step
