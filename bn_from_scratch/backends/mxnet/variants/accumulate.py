"""Batch norm for gradient accumulation: one update for several micro-batches."""

from typing import Unpack

from mxnet import np
from mxnet.gluon import Parameter
from mxnet.numpy import ndarray

from bn_from_scratch import checks
from bn_from_scratch.backends.mxnet.layer import BatchNorm, Dtype, LayerOptions
from bn_from_scratch.backends.mxnet.statistics import cumulate
from bn_from_scratch.spec import EPS, MOMENTUM


class AccumBatchNorm(BatchNorm):
    """The moving averages move once in `steps` calls, as by the joined batch.

    Each micro-batch is still normalized by its own statistics.

    >>> from mxnet import autograd, np
    >>> layer = bn.AccumBatchNorm(num_features=3, steps=2)
    >>> layer.initialize()
    >>> with autograd.record():
    ...     Y = layer(np.random.uniform(size=(8, 3)))
    >>> layer.moving_var.data().tolist(), layer.accumulated_steps.data().item()
    ([1.0, 1.0, 1.0], 1.0)
    """

    variant = "accumulate"
    steps: int
    accumulated_mean: Parameter
    accumulated_var: Parameter
    accumulated_count: Parameter
    accumulated_steps: Parameter

    def __init__(
        self,
        num_features: int | tuple[int, ...] | None = None,
        num_dims: int | None = None,
        eps: float = EPS,
        momentum: float | None = MOMENTUM,
        dtype: Dtype = "float32",
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

    def move(self, mean: ndarray, var: ndarray, n: int | ndarray) -> None:
        so_far_mean, so_far_var = (
            self.value("accumulated_mean"),
            self.value("accumulated_var"),
        )
        so_far = so_far_mean, so_far_var, self.value("accumulated_count")
        mean, var, n = cumulate(*so_far, mean, var, n)
        step = self.value("accumulated_steps") + 1
        due = step == self.steps
        super().move(mean, var, np.where(due, n, 0))  # no values, no update
        names = "mean", "var", "count", "steps"
        kept = (np.where(due, 0, v) for v in (mean, var, n, step))
        values = zip(names, kept, strict=True)
        self.put(True, **{f"accumulated_{name}": v for name, v in values})
