"""Batch norm in training, as fast as a fused kernel: XLA writes the kernel.

`jit_compile` turns a chain of elementwise operations into one loop over X.  Memory
limits such a loop, not arithmetic: in registers float64 is almost free, and with it no
mean is too large and no sum too long.  No array of X's size is ever float64.
"""

import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf
from tensorflow import Tensor
from tensorflow.python.eager.forwardprop_util import pack_tangents
from tensorflow.python.eager.record import could_possibly_record

from bn_from_scratch import spec
from bn_from_scratch.backends.tensorflow.batch_norm import (
    batch_stats,
    normalize,
    shape_of,
)
from bn_from_scratch.backends.tensorflow.layer import BatchNorm
from bn_from_scratch.backends.tensorflow.overflow import in_range
from bn_from_scratch.spec import Axis

CHANNEL_AXIS = -1  # X is [N, *, C]


def fused_batch_norm(
    X: Tensor, gamma: Tensor, beta: Tensor, eps: float, axis: Axis = CHANNEL_AXIS
) -> tuple[Tensor, Tensor, Tensor]:
    """Normalize by the batch.  X [N, *, C] -> Y like X; mean, var [C], no gradient."""
    gamma, beta = map(tf.convert_to_tensor, (gamma, beta))
    if pack_tangents([X, gamma, beta]).tangents:  # under a ForwardAccumulator
        mean, var = batch_stats(X, axis)
        Y = normalize(X, mean, var, gamma, beta, eps, axis)
        return Y, tf.stop_gradient(mean), tf.stop_gradient(var)
    forward, backward = kernels(tuple(X.shape), axis)

    @tf.custom_gradient
    def normalized(X, gamma, beta):
        # Else the tape also differentiates the kernel, and keeps all that this needs.
        Y, mean, var = forward(*map(tf.stop_gradient, (X, gamma, beta)), eps)

        def gradient(dY, *no_gradient):
            if tf.executing_eagerly() and not could_possibly_record():
                return backward(dY, X, gamma, mean, var, eps)
            return derivative(dY, X, gamma)

        @tf.custom_gradient
        def derivative(dY, X, gamma):
            operands = map(tf.stop_gradient, (dY, X, gamma))
            return backward(*operands, mean, var, eps), second(dY, X, gamma, eps, axis)

        return (Y, mean, var), gradient

    three: Any = normalized(X, gamma, beta)
    Y, mean, var = three
    dtype = tf.float32 if X.dtype.size < 4 else X.dtype
    mean, var = (tf.cast(tf.reshape(v, gamma.shape), dtype) for v in (mean, var))
    return Y, tf.stop_gradient(mean), tf.stop_gradient(var)


def second(
    dY: Tensor, X: Tensor, gamma: Tensor, eps: float, axis: Axis
) -> Callable[..., Any]:
    """The gradient of the gradient, by the core: if it is asked for at all."""

    def first(dY, X, gamma):  # as `backward`
        def core(X, gamma, beta):
            return normalize(X, *batch_stats(X, axis), gamma, beta, eps, axis)

        return pull_back(core, (X, gamma, tf.zeros_like(gamma)), dY)

    return lambda *cotangents: pull_back(first, (dY, X, gamma), cotangents)


def pull_back(function: Callable[..., Any], operands: Any, cotangents: Any) -> Any:
    """The gradients of the operands, which are seen each as a value of its own."""
    operands, zero = list(map(tf.identity, operands)), tf.UnconnectedGradients.ZERO
    if not tf.executing_eagerly():  # where a tape may be told not to record
        made = function(*operands)
        return tf.gradients(made, operands, cotangents, unconnected_gradients=zero)
    with tf.GradientTape() as tape:
        tape.watch(operands)
        made = function(*operands)
    return tape.gradient(made, operands, cotangents, zero)


@functools.cache
def kernels(shape: tuple[int | None, ...], axis: Axis) -> tuple[Any, ...]:
    """Both passes for X of this shape, which may hold None.

    XLA compiles for every shape anyway (0.3 s a pass); one tf.function for all would
    warn of it.
    """
    compiled = tf.function(jit_compile=True, autograph=False)
    return tuple(compiled(functools.partial(f, axis=axis)) for f in (forward, backward))


def forward(
    X: Tensor, gamma: Tensor, beta: Tensor, eps: float, axis: Axis
) -> tuple[Tensor, Tensor, Tensor]:
    """X [N, *, C] -> Y like X; mean, var [C] in float64."""
    T, axes = in_rows(X, axis)
    n = values_per_channel(X, gamma)
    mean = channel_sum(T, axes) / n  # (1)
    var = channel_sum(tf.square(T - mean), axes) / n  # (2)
    X_hat = (T - mean) * (1 / tf.sqrt(var + eps))  # (3)
    Y = like(gamma, mean) * X_hat + like(beta, mean)  # (4)
    return like(Y, X), mean, var


def backward(
    dY: Tensor,
    X: Tensor,
    gamma: Tensor,
    mean: Tensor,
    var: Tensor,
    eps: float,
    axis: Axis,
) -> tuple[Tensor, Tensor, Tensor]:
    """dY, X [N, *, C] -> dX like X; dgamma, dbeta like gamma [C]."""
    (T, axes), (G, _) = in_rows(X, axis), in_rows(dY, axis)
    n = values_per_channel(X, gamma)
    per_std = 1 / tf.sqrt(var + eps)
    X_hat = (T - mean) * per_std
    dbeta = channel_sum(G, axes)  # (7)
    dgamma = channel_sum(G * X_hat, axes)  # (8)
    dX = G - dbeta / n - X_hat * (dgamma / n)  # (9)
    dX = like(gamma, mean) * per_std * dX  # (10)
    return like(dX, X), like(dgamma, gamma), like(dbeta, gamma)


def in_rows(X: Tensor, axis: Axis) -> tuple[Tensor, list[int]]:
    """X in float64, its leading averaged axes made one, and the axes to sum over."""
    kept = spec.kept_axes(X.ndim, axis)
    shape = tf.concat([[-1], tf.shape(X)[kept[0] :]], 0)
    later = [a - kept[0] + 1 for a in spec.reduce_axes(X.ndim, axis) if a > kept[0]]
    return tf.cast(tf.reshape(X, shape), tf.float64), [0, *later]


def channel_sum(T: Tensor, axes: list[int]) -> Tensor:
    """Sum over the axes, 0 among them; they stay as 1.

    XLA's own sum is slow once anything is merged into it.  So eight rows at a time are
    added elementwise, in the same loop as what made them, and only those sums summed.
    """
    m, *rest = tf.unstack(tf.shape(T))
    m //= 8
    eighths = tf.unstack(tf.reshape(T[: 8 * m], [8, m, *rest]))
    total = tf.reduce_sum(tf.add_n(eighths), axes, keepdims=True)
    return total + tf.reduce_sum(T[8 * m :], axes, keepdims=True)


def values_per_channel(X: Tensor, gamma: Tensor) -> Tensor:
    """The n of the equations, also where a graph learns its batch size as it runs."""
    return tf.cast(tf.size(X) // tf.size(gamma), tf.float64)


def like(v: Tensor, other: Tensor) -> Tensor:
    """The values of v in the shape and dtype of another."""
    return tf.cast(tf.reshape(v, tf.shape(other)), other.dtype)


class FusedBatchNorm(BatchNorm):
    """Batch norm with the closed-form backward: the core's numbers, faster.

    Prediction is the core's; only training has anything to win.

    >>> import tensorflow as tf
    >>> layer = bn.FusedBatchNorm(3)
    >>> layer(tf.random.normal([8, 4, 4, 3]), training=True).shape
    TensorShape([8, 4, 4, 3])
    """

    variant = "fused"

    def train_forward(self, X: Tensor, mask: Tensor | None, update: bool) -> Tensor:
        if mask is not None or 0 in X.shape:
            return super().train_forward(X, mask, update)
        moving = self.moving_mean, self.moving_var
        *_, gamma, beta = self.operands(*moving, training=True)
        Y, mean, var = fused_batch_norm(X, gamma, beta, self.eps, self.axis)
        var = in_range(X, var)
        if update:
            self.move(mean, var, spec.values_per_channel(shape_of(X), self.axis))
        return Y
