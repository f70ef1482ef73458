"""Batch renormalization (Ioffe 2017): equations (17)-(19) of bn_from_scratch.spec."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jax import Array
from jax.lax import stop_gradient

from bn_from_scratch import checks
from bn_from_scratch.backends.jax.batch_norm import update_moving
from bn_from_scratch.backends.jax.layer import BatchNorm, Operands

# A number, or a function of the number of updates so far.
Limit = float | Callable[[Array], float | Array]


def renorm_factors(
    mean: Array,
    var: Array,
    like_mean: Array,
    like_std: Array,
    eps: float,
    r_max: float | Array,
    d_max: float | Array,
    r_min: float | Array | None = None,
) -> tuple[Array, Array]:
    """What brings X_hat to other statistics: r * X_hat + d.  Four [C] -> [C], [C]."""
    r_min = 1 / r_max if r_min is None else r_min
    mean, std = stop_gradient(mean), jnp.sqrt(stop_gradient(var) + eps)
    r = jnp.clip(std / like_std, r_min, r_max)  # (17)
    d = jnp.clip((mean - like_mean) / like_std, -d_max, d_max)  # (18)
    return r, d


def scale_and_shift(
    gamma: Array, beta: Array, scale: float | Array, shift: float | Array
) -> tuple[Array, Array]:
    """gamma and beta that make up for `scale * X_hat + shift` before them."""
    return gamma * scale, gamma * shift + beta  # (19)


def ramp(step: Array, first: float, last: float, begin: float, end: float) -> Array:
    """A schedule: `first` until step `begin`, `last` from `end` on, a line between."""
    return first + (last - first) * jnp.clip((step - begin) / (end - begin), 0, 1)


class BatchRenorm(BatchNorm, kw_only=True):
    """Training normalizes towards the moving averages, as prediction will.

    r_max, d_max, r_min (1 / r_max): numbers, or functions of the number of updates so
    far; by default the paper's schedule, which begins as batch norm (1 and 0).
    renorm_clipping: the same as Keras names them, {"rmax", "dmax", "rmin"}.
    renorm_momentum: r and d refer to averages of their own, of the mean and of the
    standard deviation, which move by this weight (as in Keras).

    >>> import jax
    >>> import jax.numpy as jnp
    >>> layer = bn.BatchRenorm(1, r_max=3, d_max=5)
    >>> X = jnp.array([[1.0], [5.0]])
    >>> Y, _ = layer.init_with_output(jax.random.key(0), X, training=True)
    >>> print(Y.round(2))
    [[1.]
     [5.]]
    """

    variant = "renorm"

    r_max: Limit | None = None
    d_max: Limit | None = None
    r_min: Limit | None = None
    renorm_momentum: float | None = None
    renorm_clipping: dict[str, float] | None = None

    def __post_init__(self) -> None:
        self.given_limits()
        checks.check_momentum("renorm_momentum", self.renorm_momentum)
        super().__post_init__()

    def build(self, shape: tuple[int, ...]) -> None:
        super().build(shape)
        self.add_scalar("num_updates")
        if self.renorm_momentum is not None:
            self.add_statistic("renorm_mean", 0, shape)
            self.add_statistic("renorm_std", 1, shape)

    def operands(self, mean: Array, var: Array, training: bool) -> Operands:
        mean, var, gamma, beta = super().operands(mean, var, training)
        if training:
            likeness = self.likeness()
            r, d = renorm_factors(mean, var, *likeness, self.eps, *self.limits())
            gamma, beta = scale_and_shift(gamma, beta, r, d)
        return mean, var, gamma, beta

    def likeness(self) -> tuple[Array, Array]:
        """Mean and standard deviation that r and d lead to."""
        if self.renorm_momentum is None:
            return self.moving_mean, jnp.sqrt(self.moving_var + self.eps)
        return self.renorm_mean, jnp.maximum(self.renorm_std, self.eps**0.5)

    def given_limits(self) -> tuple[Any, ...]:
        """r_max, d_max and r_min, each a number, a function or None."""
        limits = self.r_max, self.d_max, self.r_min
        return checks.renorm_limits(*limits, self.renorm_clipping)

    def limits(self) -> tuple[Any, ...]:
        """r_max, d_max and r_min of this step."""
        step, (r_max, d_max, r_min) = self.num_updates, self.given_limits()
        r_max = ramp(step, 1, 3, 5_000, 40_000) if r_max is None else r_max
        d_max = ramp(step, 0, 5, 5_000, 25_000) if d_max is None else d_max
        limits = r_max, d_max, r_min
        return tuple(limit(step) if callable(limit) else limit for limit in limits)

    def move(self, mean: Array, var: Array, n: int | Array) -> None:
        if self.renorm_momentum is not None:
            std, own = jnp.sqrt(var + self.eps), (self.renorm_mean, self.renorm_std)
            like_mean, like_std = update_moving(*own, mean, std, self.renorm_momentum)
            self.put(n > 1, renorm_mean=like_mean, renorm_std=like_std)
        self.put(n > 1, num_updates=self.num_updates + 1)
        super().move(mean, var, n)
