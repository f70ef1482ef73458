"""Batch norm in training from the few operations that MXNet runs fast on a CPU.

There a sum over axes costs forty times a matrix product with ones, a [1, C, 1, 1]
operand twice one with a value per row, and a new array more than the arithmetic that
fills it.  So X is [rows, values] here, each row within one channel, the result's own
memory holds every step, and the [C] vectors are NumPy's, in float64.
"""

import math
from typing import Any

import mxnet as mx
import numpy as np
from mxnet import nd
from mxnet.ndarray import NDArray
from mxnet.numpy import ndarray

from bn_from_scratch import spec
from bn_from_scratch.backends.mxnet.layer import BatchNorm
from bn_from_scratch.backends.mxnet.overflow import in_range
from bn_from_scratch.spec import Axis

CHANNEL_AXIS = 1  # X is [N, C, *]


def fused_batch_norm(
    X: ndarray, gamma: ndarray, beta: ndarray, eps: float, axis: Axis = CHANNEL_AXIS
) -> tuple[ndarray, ndarray, ndarray]:
    """Normalize by the batch.  X [N, C, *] -> Y like X; mean, var [C], no gradient."""
    kept, averaged = spec.kept_axes(X.ndim, axis), spec.reduce_axes(X.ndim, axis)
    first, last = kept[0], kept[-1]
    if last - first >= len(kept) or last == X.ndim - 1:  # a row would be one value
        order, leading = kept + averaged, tuple(range(len(kept)))
        moved = X.transpose(order)
        Y, mean, var = fused_batch_norm(moved, gamma, beta, eps, leading)
        return Y.transpose(tuple(np.argsort(order).tolist())), mean, var
    settings = {"eps": eps, "values": math.prod(X.shape[last + 1 :])}
    inputs = (v.as_nd_ndarray() for v in (plain(X), gamma, beta))
    outputs = nd.Custom(*inputs, op_type="fused_batch_norm", **settings)
    Y, mean, var = (v.as_np_ndarray() for v in outputs)
    dtype = np.promote_types(X.dtype, np.float32)
    return plain(Y), mean.detach().astype(dtype), var.detach().astype(dtype)


def plain(v: ndarray) -> ndarray:
    """A copy of v in plain layout, whose gradient comes back in plain layout, too.

    A convolution leaves oneDNN's, and a custom operator gets such an array in memory
    that MXNet meanwhile uses for something else.  Multiplication knows no oneDNN.
    """
    return v * 1


class BothPasses(mx.operator.CustomOp):
    """autograd.Function is shorter, but it never writes dgamma where X needs no
    gradient, and nothing at all with grad_req="add"."""

    eps: float
    values: int

    def __init__(self, eps: float, values: int) -> None:
        self.eps, self.values = eps, values

    def forward(
        self, is_train: bool, req: Any, in_data: Any, out_data: Any, aux: Any
    ) -> None:
        """Write Y, mean and var."""
        X, Y = self.rows(in_data[0]), self.rows(out_data[0])
        gamma, beta = vector(in_data[1]), vector(in_data[2])
        n, out = X.size / gamma.size, Y if req[0] == "write" else None
        D, rough = centre(X, channel_sum(promote(X), gamma) / n, out)
        rest = channel_sum(D, gamma) / n  # what the sum, and its rounding, left over
        mean = rough + rest  # (1)
        var = channel_dot(D, D, gamma) / n - rest**2  # (2)
        scale = gamma / np.sqrt(var + self.eps)
        D *= per_row(scale, D)  # (3)
        D += per_row(beta - rest * scale, D)  # (4)
        assign(Y, req[0], D)
        assign(out_data[1], req[1], mean)
        assign(out_data[2], req[2], var)

    def backward(
        self,
        req: Any,
        out_grad: Any,
        in_data: Any,
        out_data: Any,
        in_grad: Any,
        aux: Any,
    ) -> None:
        """Write dX, dgamma and dbeta."""
        X, dY, dX = map(self.rows, (in_data[0], out_grad[0], in_grad[0]))
        gamma, mean, var = map(vector, (in_data[1], *out_data[1:]))
        n, out = X.size / gamma.size, dX if req[0] == "write" else None
        std, dY = np.sqrt(var + self.eps), promote(dY)
        D, rough = centre(X, mean, out)
        rest = mean - rough
        dbeta = channel_sum(dY, gamma)  # (7)
        dgamma = (channel_dot(dY, D, gamma) - rest * dbeta) / std  # (8)
        if req[0] != "null":
            along = dgamma / std / n
            D *= per_row(-along, D)
            D += dY
            D += per_row(rest * along - dbeta / n, D)  # (9)
            D *= per_row(gamma / std, D)  # (10)
            assign(dX, req[0], D)
        assign(in_grad[1], req[1], dgamma)
        assign(in_grad[2], req[2], dbeta)

    def rows(self, v: Any) -> NDArray:
        """v as [rows, values], the same memory; the reshape of mx.np would copy it."""
        return v.as_nd_ndarray().reshape((-1, self.values))


@mx.operator.register("fused_batch_norm")
class Signature(mx.operator.CustomOpProp):
    """What MXNet asks of an operator before it makes one."""

    settings: tuple[float, int]

    def __init__(self, eps: str, values: str) -> None:
        super().__init__(need_top_grad=True)
        self.settings = float(eps), int(values)

    def list_arguments(self) -> list[str]:
        """Names of the inputs."""
        return ["X", "gamma", "beta"]

    def list_outputs(self) -> list[str]:
        """Names of the outputs."""
        return ["Y", "mean", "var"]

    def infer_shape(self, shapes: Any) -> Any:
        """Shapes of inputs, outputs and auxiliary state."""
        return shapes, [shapes[0], shapes[1], shapes[1]], []

    def infer_type(self, dtypes: Any) -> Any:
        """The same of their dtypes."""
        return dtypes, [dtypes[0], np.float64, np.float64], []

    def declare_backward_dependency(
        self, out_grad: Any, in_data: Any, out_data: Any
    ) -> list[Any]:
        """What `backward` reads."""
        return [out_grad[0], *in_data[:2], *out_data[1:]]  # not Y

    def create_operator(self, ctx: Any, shapes: Any, dtypes: Any) -> BothPasses:
        """The operator."""
        return BothPasses(*self.settings)


def promote(X: NDArray) -> NDArray:
    """X in float32 at least: 16-bit sums overflow and cancel."""
    return X if X.dtype(0).itemsize >= 4 else X.astype("float32")


def centre(
    X: NDArray, mean: np.ndarray, out: NDArray | None
) -> tuple[NDArray, np.ndarray]:
    """X - mean, in `out` where that has the dtype, and mean as it was rounded."""
    X = promote(X)
    rough = mean.astype(X.dtype)
    out = out if out is not None and out.dtype == X.dtype else None
    return nd.broadcast_sub(X, per_row(rough, X), out=out), rough.astype(np.float64)


def per_row(v: np.ndarray, X: NDArray) -> NDArray:
    """A [C] vector as the [rows, 1] that broadcasts against X [rows, values]."""
    column = np.tile(v, len(X) // v.size)[:, None]
    return nd.array(column, ctx=X.ctx, dtype=X.dtype)


def channel_sum(X: NDArray, gamma: np.ndarray) -> np.ndarray:
    """Sum of each channel.  X [rows, values], gamma [C] -> [C] in float64."""
    ones = nd.ones((1, X.shape[1]), ctx=X.ctx, dtype=X.dtype)
    sums = nd.FullyConnected(X, ones, num_hidden=1, no_bias=True)
    return sums.asnumpy().reshape(-1, gamma.size).sum(0, dtype=np.float64)


def channel_dot(A: NDArray, B: NDArray, gamma: np.ndarray) -> np.ndarray:
    """Sum of A * B over each channel.  Two [rows, values], gamma [C] -> [C]."""
    A, B = A.reshape((*A.shape[:1], 1, -1)), B.reshape((*B.shape, 1))
    dots = nd.batch_dot(A, B)
    return dots.asnumpy().reshape(-1, gamma.size).sum(0, dtype=np.float64)


def vector(v: Any) -> np.ndarray:
    """[C] numbers, of any shape, as one axis of NumPy's float64."""
    return v.asnumpy().reshape(-1).astype(np.float64)


def assign(array: Any, req: str, v: Any) -> None:
    """Write v, or add it, or neither: as MXNet requires.  v may be there already."""
    if v is array or req == "null":
        return
    array, v = array.as_nd_ndarray(), v.reshape(array.shape)
    own = {"ctx": array.ctx, "dtype": array.dtype}
    array[:] = array + nd.array(v, **own) if req == "add" else v


class FusedBatchNorm(BatchNorm):
    """Batch norm with the closed-form backward: the core's numbers, faster.

    It keeps a plain copy of X and a few numbers per channel for the backward pass.

    >>> from mxnet import autograd, np
    >>> layer = bn.FusedBatchNorm(num_features=3)
    >>> layer.initialize()
    >>> with autograd.record():
    ...     Y = layer(np.random.uniform(size=(8, 3, 4, 4)))
    >>> Y.shape
    (8, 3, 4, 4)
    """

    variant = "fused"

    def train_forward(self, X: ndarray, mask: ndarray | None, update: bool) -> ndarray:
        if mask is not None or 0 in X.shape:
            return super().train_forward(X, mask, update)
        moving = self.value("moving_mean"), self.value("moving_var")
        *_, gamma, beta = self.operands(*moving, training=True)
        Y, mean, var = fused_batch_norm(X, gamma, beta, self.eps, self.axis)
        var = in_range(X, var)
        if update:
            self.move(mean, var, spec.values_per_channel(X.shape, self.axis))
        return Y
