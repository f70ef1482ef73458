"""Ghost batch norm: statistics of virtual batches (Hoffer, Hubara and Soudry 2017)."""

import jax.numpy as jnp
from jax import Array
from jax.lax import stop_gradient

from bn_from_scratch import checks, spec
from bn_from_scratch.backends.jax.batch_norm import batch_stats, promote
from bn_from_scratch.backends.jax.layer import BatchNorm, Operands
from bn_from_scratch.backends.jax.overflow import in_range
from bn_from_scratch.backends.jax.statistics import pool


def ghost_batches(X: Array, ghost_size: int, order: str) -> Array:
    """X in virtual batches.  [N, *, C] -> [N / ghost_size, ghost_size, *, C].

    "strided" deals the examples out like cards.
    """
    if order == "strided":
        return X.reshape(ghost_size, -1, *X.shape[1:]).swapaxes(0, 1)
    return X.reshape(-1, ghost_size, *X.shape[1:])


def joined_batch(groups: Array, order: str) -> Array:
    """The inverse of `ghost_batches`."""
    groups = groups.swapaxes(0, 1) if order == "strided" else groups
    return groups.reshape(-1, *groups.shape[2:])


class GhostBatchNorm(BatchNorm, kw_only=True):
    """Training normalizes every `ghost_size` examples by themselves.

    order: which examples are together, "contiguous" or "strided" (Keras 2) ones.
    variance: what the moving one follows, the "total" of the batch, or the "mean" of
    the groups' (Keras 2), without the variance between them.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> layer = bn.GhostBatchNorm(1, ghost_size=2)
    >>> X = jnp.array([[0.0], [2.0], [100.0], [102.0]])
    >>> Y, _ = layer.init_with_output(jax.random.key(0), X, training=True)
    >>> print(Y.round(2))
    [[-1.]
     [ 1.]
     [-1.]
     [ 1.]]
    """

    variant = "ghost"

    ghost_size: int
    order: str = "contiguous"
    variance: str = "total"

    def __post_init__(self) -> None:
        checks.check_ghost(self.ghost_size, self.order, self.variance)
        super().__post_init__()

    def train_forward(self, X: Array, mask: Array | None, update: bool) -> Array:
        checks.check_ghost_input(X.shape, self.axis, self.ghost_size, mask)
        if 0 in X.shape:
            return super().train_forward(X, mask, update)
        dtype, X = X.dtype, promote(X)
        groups = ghost_batches(X, self.ghost_size, self.order)
        axis = (0, *(a + 1 for a in spec.kept_axes(X.ndim, self.axis)))
        mean, var = batch_stats(groups, axis)  # [groups, C]
        var = in_range(X, var)
        Y = self.normalize(groups, mean, var, axis, training=True)
        if update:
            n = spec.values_per_channel(X.shape, self.axis)
            self.move(*self.of_the_batch(stop_gradient(mean), stop_gradient(var)), n)
        return joined_batch(Y, self.order).astype(dtype)

    def operands(self, mean: Array, var: Array, training: bool) -> Operands:
        """gamma and beta [C] meet statistics [groups, C]."""
        four = super().operands(mean, var, training)
        mean, var, gamma, beta = jnp.broadcast_arrays(*four)
        return mean, var, gamma, beta

    def of_the_batch(self, mean: Array, var: Array) -> tuple[Array, Array]:
        """Statistics of the batch from those of its groups.  [groups, C] -> [C]."""
        if self.variance == "mean":
            return mean.mean(0), var.mean(0)
        mean, var, _ = pool(mean, var, jnp.ones(len(mean), mean.dtype))
        return mean, var
