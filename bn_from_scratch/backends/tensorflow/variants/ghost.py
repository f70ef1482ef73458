"""Ghost batch norm: statistics of virtual batches (Hoffer, Hubara and Soudry 2017)."""

from typing import Any, Unpack

import tensorflow as tf
from tensorflow import Tensor

from bn_from_scratch import checks, spec
from bn_from_scratch.backends.tensorflow.batch_norm import (
    batch_stats,
    promote,
    shape_of,
)
from bn_from_scratch.backends.tensorflow.layer import BatchNorm, Operands
from bn_from_scratch.backends.tensorflow.options import Dtype, LayerOptions
from bn_from_scratch.backends.tensorflow.overflow import in_range
from bn_from_scratch.backends.tensorflow.statistics import pool
from bn_from_scratch.spec import EPS, MOMENTUM


def ghost_batches(X: Tensor, ghost_size: int, order: str) -> Tensor:
    """X in virtual batches.  [N, *, C] -> [N / ghost_size, ghost_size, *, C].

    "strided" deals the examples out like cards.
    """
    if order == "strided":
        return _swap(tf.reshape(X, [ghost_size, -1, *shape_of(X)[1:]]))
    return tf.reshape(X, [-1, ghost_size, *shape_of(X)[1:]])


def joined_batch(groups: Tensor, order: str) -> Tensor:
    """The inverse of `ghost_batches`."""
    groups = _swap(groups) if order == "strided" else groups
    return tf.reshape(groups, [-1, *shape_of(groups)[2:]])


class GhostBatchNorm(BatchNorm):
    """Training normalizes every `ghost_size` examples by themselves.

    order: which examples are together, "contiguous" or "strided" (Keras 2) ones.
    variance: what the moving one follows, the "total" of the batch, or the "mean" of
    the groups' (Keras 2), without the variance between them.

    >>> import tensorflow as tf
    >>> layer = bn.GhostBatchNorm(1, ghost_size=2)
    >>> X = tf.constant([[0.0], [2.0], [100.0], [102.0]])
    >>> layer(X, training=True).numpy().round(2)
    array([[-1.],
           [ 1.],
           [-1.],
           [ 1.]], dtype=float32)
    """

    variant = "ghost"
    ghost_size: int
    order: str
    variance: str

    def __init__(
        self,
        num_features: int | tuple[int, ...] | None = None,
        num_dims: int | None = None,
        eps: float = EPS,
        momentum: float | None = MOMENTUM,
        dtype: Dtype = None,
        *,
        ghost_size: int,
        order: str = "contiguous",
        variance: str = "total",
        **options: Unpack[LayerOptions],
    ) -> None:
        super().__init__(num_features, num_dims, eps, momentum, dtype, **options)
        checks.check_ghost(ghost_size, order, variance)
        self.ghost_size, self.order, self.variance = ghost_size, order, variance

    def train_forward(self, X: Tensor, mask: Tensor | None, update: bool) -> Tensor:
        shape = tuple(X.shape)
        if shape[0] is None:  # a graph learns the batch size only when it runs
            message = f"ghost batches of {self.ghost_size} must divide the batch"
            left_over = shape_of(X)[0] % self.ghost_size
            checked = tf.debugging.assert_equal(left_over, 0, message=message)
            with tf.control_dependencies([checked]):  # before X is reshaped
                X = tf.identity(X)
            shape = self.ghost_size, *shape[1:]
        checks.check_ghost_input(shape, self.axis, self.ghost_size, mask)
        if 0 in X.shape:
            return super().train_forward(X, mask, update)
        dtype, X = X.dtype, promote(X)
        groups = ghost_batches(X, self.ghost_size, self.order)
        axis = (0, *(a + 1 for a in spec.kept_axes(X.ndim, self.axis)))
        mean, var = batch_stats(groups, axis)  # [groups, C]
        var = in_range(X, var)
        Y = self.normalize(groups, mean, var, axis, training=True)
        if update:
            n = spec.values_per_channel(shape_of(X), self.axis)
            mean, var = tf.stop_gradient(mean), tf.stop_gradient(var)
            self.move(*self.of_the_batch(mean, var), n)
        return tf.cast(joined_batch(Y, self.order), dtype)

    def operands(self, mean: Tensor, var: Tensor, training: bool) -> Operands:
        """gamma and beta [C] meet statistics [groups, C]."""
        four = super().operands(mean, var, training)
        mean, var, gamma, beta = tf.experimental.numpy.broadcast_arrays(*four)
        return mean, var, gamma, beta

    def of_the_batch(self, mean: Tensor, var: Tensor) -> tuple[Tensor, Tensor]:
        """Statistics of the batch from those of its groups.  [groups, C] -> [C]."""
        if self.variance == "mean":
            return tf.reduce_mean(mean, 0), tf.reduce_mean(var, 0)
        groups = tf.ones(shape_of(mean)[:1], mean.dtype)
        mean, var, _ = pool(mean, var, groups)
        return mean, var

    def arguments(self) -> dict[str, Any]:
        names = "ghost_size", "order", "variance"
        return super().arguments() | {name: getattr(self, name) for name in names}


def _swap(X: Tensor) -> Tensor:
    """X with its first two axes exchanged."""
    return tf.transpose(X, [1, 0, *range(2, X.ndim)])
