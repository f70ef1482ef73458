"""Any norm layer of Gluon, ready to be timed: forward, and forward with backward."""

import mxnet
from mxnet import autograd, np


def prepare(layer, X, dY):
    """Two functions of nothing, for X and the cotangent dY, NumPy [N, C, *].

    `forward()` returns the output and whatever holds what backward needs; `step()` does
    one forward and one backward pass in training, and returns when both are done.
    """
    X, dY = (np.array(v, dtype=v.dtype) for v in (X, dY))
    X.attach_grad()
    layer.initialize()
    if isinstance(layer, mxnet.gluon.HybridBlock):
        layer.hybridize(static_alloc=True)

    def forward():
        with autograd.record():
            Y = layer(X)
        mxnet.nd.waitall()
        return Y

    def step():
        with autograd.record():
            Y = layer(X)
        Y.backward(dY)
        mxnet.nd.waitall()  # MXNet computes behind Python's back

    return forward, step
