"""Batch renormalization (Ioffe 2017): equations (17)-(19) of bn_from_scratch.spec."""

from collections.abc import Callable

import jax.numpy as jnp
from jax.lax import stop_gradient

from bn_from_scratch import checks
from bn_from_scratch.backends.jax.batch_norm import update_moving
from bn_from_scratch.backends.jax.layer import BatchNorm


def renorm_factors(mean, var, like_mean, like_std, eps, r_max, d_max, r_min=None):
    """What brings X_hat to other statistics: r * X_hat + d.  Four [C] -> [C], [C]."""
    r_min = 1 / r_max if r_min is None else r_min
    mean, std = stop_gradient(mean), jnp.sqrt(stop_gradient(var) + eps)
    r = jnp.clip(std / like_std, r_min, r_max)  # (17)
    d = jnp.clip((mean - like_mean) / like_std, -d_max, d_max)  # (18)
    return r, d


def scale_and_shift(gamma, beta, scale, shift):
    """gamma and beta that make up for `scale * X_hat + shift` before them."""
    return gamma * scale, gamma * shift + beta  # (19)


def ramp(step, first, last, begin, end):
    """A schedule: `first` until step `begin`, `last` from `end` on, a line between."""
    return first + (last - first) * jnp.clip((step - begin) / (end - begin), 0, 1)


class BatchRenorm(BatchNorm, kw_only=True):
    """Training normalizes towards the moving averages, as prediction will.

    r_max, d_max, r_min (1 / r_max): numbers, or functions of the number of updates so
    far; by default the paper's schedule, which begins as batch norm (1 and 0).
    renorm_clipping: the same as Keras names them, {"rmax", "dmax", "rmin"}.
    renorm_momentum: r and d refer to averages of their own, of the mean and of the
    standard deviation, which move by this weight (as in Keras).
    """

    variant = "renorm"

    r_max: float | Callable | None = None
    d_max: float | Callable | None = None
    r_min: float | Callable | None = None
    renorm_momentum: float | None = None
    renorm_clipping: dict | None = None

    def __post_init__(self):
        self.given_limits()
        checks.check_momentum("renorm_momentum", self.renorm_momentum)
        super().__post_init__()

    def build(self, shape):
        super().build(shape)
        self.add_scalar("num_updates")
        if self.renorm_momentum is not None:
            self.add_statistic("renorm_mean", 0, shape)
            self.add_statistic("renorm_std", 1, shape)

    def operands(self, mean, var, training):
        mean, var, gamma, beta = super().operands(mean, var, training)
        if training:
            likeness = self.likeness()
            r, d = renorm_factors(mean, var, *likeness, self.eps, *self.limits())
            gamma, beta = scale_and_shift(gamma, beta, r, d)
        return mean, var, gamma, beta

    def likeness(self):
        """Mean and standard deviation that r and d lead to."""
        if self.renorm_momentum is None:
            return self.moving_mean, jnp.sqrt(self.moving_var + self.eps)
        return self.renorm_mean, jnp.maximum(self.renorm_std, self.eps**0.5)

    def given_limits(self):
        """r_max, d_max and r_min, each a number, a function or None."""
        limits = self.r_max, self.d_max, self.r_min
        return checks.renorm_limits(*limits, self.renorm_clipping)

    def limits(self):
        """r_max, d_max and r_min of this step."""
        step, (r_max, d_max, r_min) = self.num_updates, self.given_limits()
        r_max = ramp(step, 1, 3, 5_000, 40_000) if r_max is None else r_max
        d_max = ramp(step, 0, 5, 5_000, 25_000) if d_max is None else d_max
        limits = r_max, d_max, r_min
        return tuple(limit(step) if callable(limit) else limit for limit in limits)

    def move(self, mean, var, n):
        if self.renorm_momentum is not None:
            std, own = jnp.sqrt(var + self.eps), (self.renorm_mean, self.renorm_std)
            like_mean, like_std = update_moving(*own, mean, std, self.renorm_momentum)
            self.put(n > 1, renorm_mean=like_mean, renorm_std=like_std)
        self.put(n > 1, num_updates=self.num_updates + 1)
        super().move(mean, var, n)
