"""Batch norm for gradient accumulation: one update for several micro-batches."""

import jax.numpy as jnp
from jax import Array

from bn_from_scratch import checks
from bn_from_scratch.backends.jax.layer import BatchNorm
from bn_from_scratch.backends.jax.statistics import cumulate


class AccumBatchNorm(BatchNorm, kw_only=True):
    """The moving averages move once in `steps` calls, as by the joined batch.

    Each micro-batch is still normalized by its own statistics.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> layer, X = bn.AccumBatchNorm(3, steps=2), jnp.ones([8, 3])
    >>> variables = layer.init(jax.random.key(0), X, training=False)
    >>> for _ in range(2):
    ...     Y, variables = layer.apply(variables, X, training=True, mutable=True)
    ...     print(variables["batch_stats"]["moving_mean"])
    [0. 0. 0.]
    [0.1 0.1 0.1]
    """

    variant = "accumulate"

    steps: int

    def __post_init__(self) -> None:
        checks.check_integer("steps", self.steps, 1)
        super().__post_init__()

    def build(self, shape: tuple[int, ...]) -> None:
        super().build(shape)
        self.add_statistic("accumulated_mean", 0, shape)
        self.add_statistic("accumulated_var", 0, shape)
        self.add_scalar("accumulated_count")
        self.add_scalar("accumulated_steps")

    def move(self, mean: Array, var: Array, n: int | Array) -> None:
        so_far = self.accumulated_mean, self.accumulated_var, self.accumulated_count
        mean, var, n = cumulate(*so_far, mean, var, n)
        step = self.accumulated_steps + 1
        due = step == self.steps
        super().move(mean, var, jnp.where(due, n, 0))  # no values, no update
        names = "mean", "var", "count", "steps"
        kept = (jnp.where(due, 0, v) for v in (mean, var, n, step))
        values = zip(names, kept, strict=True)
        self.put(True, **{f"accumulated_{name}": v for name, v in values})
