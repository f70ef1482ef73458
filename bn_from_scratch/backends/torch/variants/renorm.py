"""Batch renormalization (Ioffe 2017): equations (17)-(19) of bn_from_scratch.spec."""

from typing import Any, Unpack

import torch
from torch import Tensor

from bn_from_scratch import checks
from bn_from_scratch.backends.torch.batch_norm import update_moving
from bn_from_scratch.backends.torch.layer import (
    BatchNorm,
    Dtype,
    LayerOptions,
    Operands,
)
from bn_from_scratch.backends.torch.recomputation import FirstRuns, recomputing
from bn_from_scratch.checks import Limit
from bn_from_scratch.spec import EPS, MOMENTUM


def renorm_factors(
    mean: Tensor,
    var: Tensor,
    like_mean: Tensor,
    like_std: Tensor,
    eps: float,
    r_max: float | Tensor,
    d_max: float | Tensor,
    r_min: float | Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """What brings X_hat to other statistics: r * X_hat + d.  Four [C] -> [C], [C]."""
    r_low: Any = 1 / r_max if r_min is None else r_min
    d_low: Any = -d_max
    mean, std = mean.detach(), torch.sqrt(var.detach() + eps)
    r = torch.clip(std / like_std, r_low, r_max)  # (17)
    d = torch.clip((mean - like_mean) / like_std, d_low, d_max)  # (18)
    return r, d


def scale_and_shift(
    gamma: Tensor, beta: Tensor, scale: float | Tensor, shift: float | Tensor
) -> tuple[Tensor, Tensor]:
    """gamma and beta that make up for `scale * X_hat + shift` before them."""
    return gamma * scale, gamma * shift + beta  # (19)


def ramp(step: Tensor, first: float, last: float, begin: int, end: int) -> Tensor:
    """A schedule: `first` until step `begin`, `last` from `end` on, a line between."""
    return first + (last - first) * torch.clip((step - begin) / (end - begin), 0, 1)


class BatchRenorm(BatchNorm):
    """Training normalizes towards the moving averages, as prediction will.

    r_max, d_max, r_min (1 / r_max): numbers, or functions of the number of updates so
    far; by default the paper's schedule, which begins as batch norm (1 and 0).
    renorm_clipping: the same as Keras names them, {"rmax", "dmax", "rmin"}.
    renorm_momentum: r and d refer to averages of their own, of the mean and of the
    standard deviation, which move by this weight (as in Keras).

    >>> layer = bn.BatchRenorm(num_features=3, r_max=3, d_max=5)
    >>> layer(torch.rand(8, 3)).shape, layer.num_updates.item()
    (torch.Size([8, 3]), 1.0)
    """

    variant = "renorm"
    r_max: Limit
    d_max: Limit
    r_min: Limit
    renorm_momentum: float | None
    first_runs: FirstRuns
    num_updates: Tensor
    renorm_mean: Tensor
    renorm_std: Tensor

    def __init__(
        self,
        num_features: int | tuple[int, ...] | None = None,
        num_dims: int | None = None,
        eps: float = EPS,
        momentum: float | None = MOMENTUM,
        dtype: Dtype = None,
        *,
        r_max: Limit = None,
        d_max: Limit = None,
        r_min: Limit = None,
        renorm_momentum: float | None = None,
        renorm_clipping: dict[str, float] | None = None,
        **options: Unpack[LayerOptions],
    ) -> None:
        super().__init__(num_features, num_dims, eps, momentum, dtype, **options)
        limits = checks.renorm_limits(r_max, d_max, r_min, renorm_clipping)
        self.r_max, self.d_max, self.r_min = limits
        checks.check_momentum("renorm_momentum", renorm_momentum)
        self.renorm_momentum, self.first_runs = renorm_momentum, FirstRuns()
        self.add_scalar("num_updates")
        if renorm_momentum is not None:
            self.add_statistic("renorm_mean", 0)
            self.add_statistic("renorm_std", 1)

    def operands(self, mean: Tensor, var: Tensor, training: bool) -> Operands:
        mean, var, gamma, beta = super().operands(mean, var, training)
        if training:
            r, d = self.factors(mean, var)
            gamma, beta = scale_and_shift(gamma, beta, r, d)
        return mean, var, gamma, beta

    def factors(self, mean: Tensor, var: Tensor) -> tuple[Tensor, ...]:
        """r and d; in a recomputation the same again, though the averages moved."""
        if recomputing():
            return self.first_runs.of(mean)
        likeness = self.likeness()
        r, d = renorm_factors(mean, var, *likeness, self.eps, *self.limits())
        return self.first_runs.note(mean, (r, d))

    def likeness(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation that r and d lead to."""
        if self.renorm_momentum is None:
            return self.moving_mean, torch.sqrt(self.moving_var + self.eps)
        return self.renorm_mean, self.renorm_std.clip(min=self.eps**0.5)

    def limits(self) -> tuple[Any, ...]:
        """r_max, d_max and r_min of this step."""
        step = self.num_updates
        r_max = ramp(step, 1, 3, 5_000, 40_000) if self.r_max is None else self.r_max
        d_max = ramp(step, 0, 5, 5_000, 25_000) if self.d_max is None else self.d_max
        limits = r_max, d_max, self.r_min
        return tuple(limit(step) if callable(limit) else limit for limit in limits)

    def move(self, mean: Tensor, var: Tensor, n: int | Tensor) -> None:
        if self.renorm_momentum is not None:
            std, own = torch.sqrt(var + self.eps), (self.renorm_mean, self.renorm_std)
            like_mean, like_std = update_moving(*own, mean, std, self.renorm_momentum)
            self.put(n > 1, renorm_mean=like_mean, renorm_std=like_std)
        self.put(n > 1, num_updates=self.num_updates + 1)
        super().move(mean, var, n)
