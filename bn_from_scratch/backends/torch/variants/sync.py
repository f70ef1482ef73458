"""Batch norm over the replicas of data-parallel training, with torch.distributed."""

from collections.abc import Callable
from typing import Any, Unpack

import torch
from torch import Tensor, distributed

from bn_from_scratch.backends.torch.layer import BatchNorm, Dtype, LayerOptions
from bn_from_scratch.spec import EPS, MOMENTUM


def pool_replicas(
    mean: Tensor, var: Tensor, n: int | Tensor, all_reduce: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """`pool` of parts that lie in different replicas.  [C], [C], n -> the same."""
    n = n * torch.ones((), dtype=mean.dtype, device=mean.device)
    total = all_reduce(n)  # (14)
    weight = n / total.clamp(min=1)
    whole = all_reduce(weight * mean)  # (15)
    var = all_reduce(weight * (var + torch.square(mean - whole)))  # (16)
    return whole, var, total


class SyncBatchNorm(BatchNorm):
    """Statistics over all replicas of the process group, whatever their batch sizes.

    group: a torch.distributed group, or None for all processes.  Every replica must
    call the layer, if only with an empty batch.  With no process group it is the core.

    >>> bn.SyncBatchNorm(num_features=3)(torch.rand(8, 3)).shape
    torch.Size([8, 3])
    """

    variant = "sync"
    needs_values = False  # the replicas together have them
    group: distributed.ProcessGroup | None

    def __init__(
        self,
        num_features: int | tuple[int, ...] | None = None,
        num_dims: int | None = None,
        eps: float = EPS,
        momentum: float | None = MOMENTUM,
        dtype: Dtype = None,
        *,
        group: distributed.ProcessGroup | None = None,
        **options: Unpack[LayerOptions],
    ) -> None:
        super().__init__(num_features, num_dims, eps, momentum, dtype, **options)
        self.group = group

    def batch_stats(
        self, X: Tensor, mask: Tensor | None
    ) -> tuple[Tensor, Tensor, int | Tensor]:
        mean, var, n = super().batch_stats(X, mask)
        if not (distributed.is_available() and distributed.is_initialized()):
            return mean, var, n
        return pool_replicas(mean, var, n, self.all_reduce)

    def all_reduce(self, v: Tensor) -> Tensor:
        """The sum over the replicas; its gradient is summed over them in turn."""
        return _Sum.apply(v, self.group)


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, v: Tensor, group: Any) -> Tensor:
        ctx.group, total = group, v.clone()
        distributed.all_reduce(total, group=group)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return _Sum.apply(gradient.contiguous(), ctx.group), None
