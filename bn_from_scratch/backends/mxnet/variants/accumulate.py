"""Batch norm for gradient accumulation: one update for several micro-batches."""

from mxnet import np

from bn_from_scratch import checks
from bn_from_scratch.backends.mxnet.layer import BatchNorm
from bn_from_scratch.backends.mxnet.statistics import cumulate


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
        so_far = (self.value(name) for name in names)
        mean, var, n = cumulate(*so_far, mean, var, n)
        step = self.value("accumulated_steps") + 1
        due = step == self.steps
        super().move(mean, var, np.where(due, n, 0))  # no values, no update
        kept = (np.where(due, 0, v) for v in (mean, var, n, step))
        self.put(True, **dict(zip((*names, "accumulated_steps"), kept, strict=True)))
