"""Batch norm for gradient accumulation: one update for several micro-batches."""

import jax.numpy as jnp

from bn_from_scratch import checks
from bn_from_scratch.backends.jax.layer import BatchNorm
from bn_from_scratch.backends.jax.statistics import cumulate


class AccumBatchNorm(BatchNorm, kw_only=True):
    """The moving averages move once in `steps` calls, as by the joined batch.

    Each micro-batch is still normalized by its own statistics.
    """

    variant = "accumulate"

    steps: int

    def __post_init__(self):
        checks.check_integer("steps", self.steps, 1)
        super().__post_init__()

    def build(self, shape):
        super().build(shape)
        self.add_statistic("accumulated_mean", 0, shape)
        self.add_statistic("accumulated_var", 0, shape)
        self.add_scalar("accumulated_count")
        self.add_scalar("accumulated_steps")

    def move(self, mean, var, n):
        names = "accumulated_mean", "accumulated_var", "accumulated_count"
        so_far = (getattr(self, name) for name in names)
        mean, var, n = cumulate(*so_far, mean, var, n)
        step = self.accumulated_steps + 1
        due = step == self.steps
        super().move(mean, var, jnp.where(due, n, 0))  # no values, no update
        kept = (jnp.where(due, 0, v) for v in (mean, var, n, step))
        self.put(True, **dict(zip((*names, "accumulated_steps"), kept, strict=True)))
