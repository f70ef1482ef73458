"""Batch norm over the replicas of data-parallel training, with torch.distributed."""

import torch
from torch import distributed

from bn_from_scratch.backends.torch.layer import BatchNorm


def pool_replicas(mean, var, n, all_reduce):
    """`pool` of parts that lie in different replicas.  [C], [C], n -> the same."""
    n = torch.as_tensor(n, dtype=mean.dtype, device=mean.device)
    total = all_reduce(n)  # (14)
    weight = n / total.clamp(min=1)
    whole = all_reduce(weight * mean)  # (15)
    var = all_reduce(weight * (var + torch.square(mean - whole)))  # (16)
    return whole, var, total


class SyncBatchNorm(BatchNorm):
    """Statistics over all replicas of the process group, whatever their batch sizes.

    group: a torch.distributed group, or None for all processes.  Every replica must
    call the layer, if only with an empty batch.  With no process group it is the core.
    """

    variant = "sync"
    needs_values = False  # the replicas together have them

    def __init__(self, *args, group=None, **kwargs):
        super().__init__(*args, **kwargs)
        self.group = group

    def batch_stats(self, X, mask):
        mean, var, n = super().batch_stats(X, mask)
        if not (distributed.is_available() and distributed.is_initialized()):
            return mean, var, n
        return pool_replicas(mean, var, n, self.all_reduce)

    def all_reduce(self, v):
        """The sum over the replicas; its gradient is summed over them in turn."""
        return _Sum.apply(v, self.group)


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx, v, group):
        ctx.group, total = group, v.clone()
        distributed.all_reduce(total, group=group)
        return total

    @staticmethod
    def backward(ctx, gradient):
        return _Sum.apply(gradient.contiguous(), ctx.group), None
