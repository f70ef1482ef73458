"""Batch norm over the replicas of data-parallel training, with JAX's collectives."""

from collections.abc import Callable

import jax.numpy as jnp
from jax import Array, lax

from bn_from_scratch.backends.jax.layer import BatchNorm


def pool_replicas(
    mean: Array, var: Array, n: int | Array, all_reduce: Callable[[Array], Array]
) -> tuple[Array, Array, Array]:
    """`pool` of parts that lie in different replicas.  [C], [C], n -> the same."""
    n = jnp.asarray(n, mean.dtype)
    total = all_reduce(n)  # (14)
    weight = n / jnp.maximum(total, 1)
    whole = all_reduce(weight * mean)  # (15)
    var = all_reduce(weight * (var + jnp.square(mean - whole)))  # (16)
    return whole, var, total


class SyncBatchNorm(BatchNorm, kw_only=True):
    """Statistics over all replicas on a mapped axis, whatever their batch sizes.

    axis_name: the axis of shard_map, pmap or vmap that the replicas lie on, or several;
    without it the layer is the core.  axis_index_groups: replicas that belong together
    (shard_map takes them with check_vma=False; an axis for each level does the same).
    Shards of a JAX array have one shape: a mask makes batches of different sizes, and
    empty ones.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> layer, X = bn.SyncBatchNorm(3, axis_name="replicas"), jnp.ones([2, 8, 3])
    >>> variables = layer.init(jax.random.key(0), X[0], training=False)
    >>> call = lambda X: layer.apply(variables, X, training=True, update=False)
    >>> jax.vmap(call, axis_name="replicas")(X).shape
    (2, 8, 3)
    """

    variant = "sync"
    needs_values = False  # the replicas together have them

    axis_name: str | tuple[str, ...] | None = None
    axis_index_groups: tuple[tuple[int, ...], ...] | None = None

    def batch_stats(
        self, X: Array, mask: Array | None
    ) -> tuple[Array, Array, int | Array]:
        mean, var, n = super().batch_stats(X, mask)
        # `init` runs outside of the mapped axis, where its name means nothing.
        if self.axis_name is None or self.is_initializing():
            return mean, var, n
        return pool_replicas(mean, var, n, self.all_reduce)

    def all_reduce(self, v: Array) -> Array:
        """The sum over the replicas; its gradient is summed over them in turn."""
        groups = self.axis_index_groups
        return lax.psum(v, self.axis_name, axis_index_groups=groups)
