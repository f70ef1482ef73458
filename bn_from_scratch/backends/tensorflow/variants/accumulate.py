"""Batch norm for gradient accumulation: one update for several micro-batches."""

import tensorflow as tf

from bn_from_scratch import checks
from bn_from_scratch.backends.tensorflow.layer import BatchNorm
from bn_from_scratch.backends.tensorflow.statistics import cumulate


class AccumBatchNorm(BatchNorm):
    """The moving averages move once in `steps` calls, as by the joined batch.

    Each micro-batch is still normalized by its own statistics.
    """

    variant = "accumulate"

    def __init__(self, *args, steps, **kwargs):
        super().__init__(*args, **kwargs)
        checks.check_integer("steps", steps, 1)
        self.steps = steps
        self.add_statistic("accumulated_mean", 0)
        self.add_statistic("accumulated_var", 0)
        self.add_scalar("accumulated_count")
        self.add_scalar("accumulated_steps")

    def move(self, mean, var, n):
        names = "accumulated_mean", "accumulated_var", "accumulated_count"
        so_far = (getattr(self, name) for name in names)
        mean, var, n = cumulate(*so_far, mean, var, n)
        step = self.accumulated_steps + 1
        due = step == self.steps
        super().move(mean, var, tf.where(due, n, 0))  # no values, no update
        kept = (tf.where(due, tf.zeros_like(v), v) for v in (mean, var, n, step))
        self.put(True, **dict(zip((*names, "accumulated_steps"), kept, strict=True)))

    def arguments(self):
        return super().arguments() | {"steps": self.steps}
