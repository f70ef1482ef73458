"""Batch norm for gradient accumulation: one update for several micro-batches."""

from typing import Unpack

import torch
from torch import Tensor

from bn_from_scratch import checks
from bn_from_scratch.backends.torch.layer import BatchNorm, Dtype, LayerOptions
from bn_from_scratch.backends.torch.statistics import cumulate
from bn_from_scratch.spec import EPS, MOMENTUM


class AccumBatchNorm(BatchNorm):
    """The moving averages move once in `steps` calls, as by the joined batch.

    Each micro-batch is still normalized by its own statistics.

    >>> layer = bn.AccumBatchNorm(num_features=3, steps=2)
    >>> Y = layer(torch.rand(8, 3))
    >>> layer.moving_var.tolist(), layer.accumulated_steps.item()
    ([1.0, 1.0, 1.0], 1.0)
    """

    variant = "accumulate"
    steps: int
    accumulated_mean: Tensor
    accumulated_var: Tensor
    accumulated_count: Tensor
    accumulated_steps: Tensor

    def __init__(
        self,
        num_features: int | tuple[int, ...] | None = None,
        num_dims: int | None = None,
        eps: float = EPS,
        momentum: float | None = MOMENTUM,
        dtype: Dtype = None,
        *,
        steps: int,
        **options: Unpack[LayerOptions],
    ) -> None:
        super().__init__(num_features, num_dims, eps, momentum, dtype, **options)
        checks.check_integer("steps", steps, 1)
        self.steps = steps
        self.add_statistic("accumulated_mean", 0)
        self.add_statistic("accumulated_var", 0)
        self.add_scalar("accumulated_count")
        self.add_scalar("accumulated_steps")

    def move(self, mean: Tensor, var: Tensor, n: int | Tensor) -> None:
        so_far = self.accumulated_mean, self.accumulated_var, self.accumulated_count
        mean, var, n = cumulate(*so_far, mean, var, n)
        step = self.accumulated_steps + 1
        due = step == self.steps
        super().move(mean, var, torch.where(due, n, 0))  # no values, no update
        names = "mean", "var", "count", "steps"
        kept = (torch.where(due, 0, v) for v in (mean, var, n, step))
        values = zip(names, kept, strict=True)
        self.put(True, **{f"accumulated_{name}": v for name, v in values})
