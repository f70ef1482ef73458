"""Ghost batch norm: statistics of virtual batches (Hoffer, Hubara and Soudry 2017)."""

from typing import Unpack

import torch
from torch import Tensor

from bn_from_scratch import checks, spec
from bn_from_scratch.backends.torch.batch_norm import batch_stats, promote
from bn_from_scratch.backends.torch.layer import (
    BatchNorm,
    Dtype,
    LayerOptions,
    Operands,
)
from bn_from_scratch.backends.torch.overflow import in_range
from bn_from_scratch.backends.torch.statistics import pool
from bn_from_scratch.spec import EPS, MOMENTUM


def ghost_batches(X: Tensor, ghost_size: int, order: str) -> Tensor:
    """X in virtual batches.  [N, C, *] -> [N / ghost_size, ghost_size, C, *].

    "strided" deals the examples out like cards.
    """
    if order == "strided":
        return X.reshape(ghost_size, -1, *X.shape[1:]).transpose(0, 1)
    return X.reshape(-1, ghost_size, *X.shape[1:])


def joined_batch(groups: Tensor, order: str) -> Tensor:
    """The inverse of `ghost_batches`."""
    groups = groups.transpose(0, 1) if order == "strided" else groups
    return groups.reshape(-1, *groups.shape[2:])


class GhostBatchNorm(BatchNorm):
    """Training normalizes every `ghost_size` examples by themselves.

    order: which examples are together, "contiguous" or "strided" (Keras 2) ones.
    variance: what the moving one follows, the "total" of the batch, or the "mean" of
    the groups' (Keras 2), without the variance between them.

    >>> Y = bn.GhostBatchNorm(num_features=3, ghost_size=4)(torch.rand(8, 3))
    >>> torch.allclose(Y[:4].mean(0), torch.zeros(3), atol=1e-5)
    True
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
            self.move(*self.of_the_batch(mean.detach(), var.detach()), n)
        return joined_batch(Y, self.order).to(dtype)

    def operands(self, mean: Tensor, var: Tensor, training: bool) -> Operands:
        """gamma and beta [C] meet statistics [groups, C]."""
        four = super().operands(mean, var, training)
        mean, var, gamma, beta = torch.broadcast_tensors(*four)
        return mean, var, gamma, beta

    def of_the_batch(self, mean: Tensor, var: Tensor) -> tuple[Tensor, Tensor]:
        """Statistics of the batch from those of its groups.  [groups, C] -> [C]."""
        if self.variance == "mean":
            return mean.mean(0), var.mean(0)
        mean, var, _ = pool(mean, var, mean.new_ones(mean.shape[0]))
        return mean, var
