"""Batch norm over the replicas of data-parallel training, with tf.distribute."""

from collections.abc import Callable

import tensorflow as tf
from tensorflow import Tensor

from bn_from_scratch.backends.tensorflow.layer import BatchNorm
from bn_from_scratch.backends.tensorflow.statistics import select


def pool_replicas(
    mean: Tensor, var: Tensor, n: int | Tensor, all_reduce: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """`pool` of parts that lie in different replicas.  [C], [C], n -> the same."""
    n = tf.cast(n, mean.dtype)
    nothing = tf.zeros_like(mean), tf.zeros_like(var)
    mean, var = select(n > 0, (mean, var), nothing)  # of no values: 0 / 0
    total = all_reduce(n)  # (14)
    weight = n / tf.maximum(total, 1)
    whole = all_reduce(weight * mean)  # (15)
    var = all_reduce(weight * (var + tf.square(mean - whole)))  # (16)
    return whole, var, total


class SyncBatchNorm(BatchNorm):
    """Statistics over all replicas of a strategy, whatever their batch sizes.

    Every replica must call the layer, if only with an empty batch.  Outside of
    `strategy.run`, and with one replica, it is the core.

    >>> import tensorflow as tf
    >>> layer = bn.SyncBatchNorm(3)
    >>> layer(tf.random.normal([8, 4, 4, 3]), training=True).shape
    TensorShape([8, 4, 4, 3])
    """

    variant = "sync"
    needs_values = False  # the replicas together have them

    def batch_stats(
        self, X: Tensor, mask: Tensor | None
    ) -> tuple[Tensor, Tensor, int | Tensor]:
        mean, var, n = super().batch_stats(X, mask)
        replica = tf.distribute.get_replica_context()  # None: in a scope, not in run
        if replica is None or replica.num_replicas_in_sync == 1:
            return mean, var, n
        return pool_replicas(mean, var, n, self.all_reduce)

    def all_reduce(self, v: Tensor) -> Tensor:
        """The sum over the replicas; its gradient is summed over them in turn."""
        replica = tf.distribute.get_replica_context()
        return replica.all_reduce(tf.distribute.ReduceOp.SUM, v)
