"""Batch norm over the replicas of data-parallel training, with several contexts."""

from collections.abc import Callable

from mxnet import np
from mxnet.numpy import ndarray

from bn_from_scratch.backends.mxnet import replicas
from bn_from_scratch.backends.mxnet.layer import BatchNorm


def pool_replicas(
    mean: ndarray,
    var: ndarray,
    n: int | ndarray,
    all_reduce: Callable[[ndarray], ndarray],
) -> tuple[ndarray, ndarray, ndarray]:
    """`pool` of parts that lie in different replicas.  [C], [C], n -> the same."""
    own: ndarray = np.array(n, dtype=mean.dtype, ctx=mean.ctx)
    total = all_reduce(own)  # (14)
    weight = own / np.maximum(total, 1)
    whole = all_reduce(weight * mean)  # (15)
    var = all_reduce(weight * (var + np.square(mean - whole)))  # (16)
    return whole, var, total


class SyncBatchNorm(BatchNorm):
    """Statistics over all replicas of a `run_replicas`, whatever their batch sizes.

    Every replica must call the layer.  Outside of `run_replicas` it is the core.

    >>> from mxnet import autograd, np
    >>> layer = bn.SyncBatchNorm(num_features=3)
    >>> layer.initialize()
    >>> with autograd.record():
    ...     Y = layer(np.random.uniform(size=(8, 3)))
    >>> Y.shape
    (8, 3)
    """

    variant = "sync"
    needs_values = False  # the replicas together have them

    def batch_stats(
        self, X: ndarray, mask: ndarray | None
    ) -> tuple[ndarray, ndarray, int | ndarray]:
        mean, var, n = super().batch_stats(X, mask)
        relay, _ = replicas.place()
        if relay is None:
            return mean, var, n
        return pool_replicas(mean, var, n, self.all_reduce)

    def all_reduce(self, v: ndarray) -> ndarray:
        """The sum over the replicas; its gradient is summed over them in turn."""
        relay, rank = replicas.place()
        return v if relay is None else relay.all_reduce(rank, v)
