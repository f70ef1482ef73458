"""Batch norm for gradient accumulation: one update for several micro-batches."""

from typing import Any, Unpack

import keras
import tensorflow as tf
from tensorflow import Tensor

from bn_from_scratch import checks
from bn_from_scratch.backends.tensorflow.layer import BatchNorm
from bn_from_scratch.backends.tensorflow.options import Dtype, LayerOptions
from bn_from_scratch.backends.tensorflow.statistics import cumulate
from bn_from_scratch.spec import EPS, MOMENTUM


class AccumBatchNorm(BatchNorm):
    """The moving averages move once in `steps` calls, as by the joined batch.

    Each micro-batch is still normalized by its own statistics.

    >>> import tensorflow as tf
    >>> layer, X = bn.AccumBatchNorm(3, steps=2), tf.ones([8, 3])
    >>> Y = layer(X, training=True)
    >>> layer.moving_mean.numpy()
    array([0., 0., 0.], dtype=float32)
    >>> Y = layer(X, training=True)
    >>> layer.moving_mean.numpy()
    array([0.1, 0.1, 0.1], dtype=float32)
    """

    variant = "accumulate"

    accumulated_mean: keras.Variable
    accumulated_var: keras.Variable
    accumulated_count: keras.Variable
    accumulated_steps: keras.Variable

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
        super().move(mean, var, tf.where(due, n, 0))  # no values, no update
        names = "mean", "var", "count", "steps"
        kept = (tf.where(due, tf.zeros_like(v), v) for v in (mean, var, n, step))
        values = zip(names, kept, strict=True)
        self.put(True, **{f"accumulated_{name}": v for name, v in values})

    def arguments(self) -> dict[str, Any]:
        return super().arguments() | {"steps": self.steps}
