"""Batch renormalization (Ioffe 2017): equations (17)-(19) of bn_from_scratch.spec."""

from typing import Any, Unpack

from mxnet import np
from mxnet.gluon import Parameter
from mxnet.numpy import ndarray

from bn_from_scratch import checks
from bn_from_scratch.backends.mxnet.batch_norm import update_moving
from bn_from_scratch.backends.mxnet.dtypes import like
from bn_from_scratch.backends.mxnet.layer import (
    BatchNorm,
    Dtype,
    LayerOptions,
    Operands,
)
from bn_from_scratch.checks import Limit
from bn_from_scratch.spec import EPS, MOMENTUM


def renorm_factors(
    mean: ndarray,
    var: ndarray,
    like_mean: ndarray,
    like_std: ndarray,
    eps: float,
    r_max: float | ndarray,
    d_max: float | ndarray,
    r_min: float | ndarray | None = None,
) -> tuple[ndarray, ndarray]:
    """What brings X_hat to other statistics: r * X_hat + d.  Four [C] -> [C], [C]."""
    r_min = 1 / r_max if r_min is None else r_min
    mean, std = mean.detach(), np.sqrt(var.detach() + eps)
    r = _clip(std / like_std, r_min, r_max)  # (17)
    d = _clip((mean - like_mean) / like_std, -d_max, d_max)  # (18)
    return r, d


def _clip(v: ndarray, least: float | ndarray, most: float | ndarray) -> ndarray:
    """MXNet's own reads its limits as float32."""
    return np.minimum(np.maximum(v, least), most)


def scale_and_shift(
    gamma: ndarray, beta: ndarray, scale: float | ndarray, shift: float | ndarray
) -> tuple[ndarray, ndarray]:
    """gamma and beta that make up for `scale * X_hat + shift` before them."""
    return gamma * scale, gamma * shift + beta  # (19)


def ramp(step: ndarray, first: float, last: float, begin: int, end: int) -> ndarray:
    """A schedule: `first` to step `begin`, `last` from step `end`, a line between."""
    return first + (last - first) * _clip((step - begin) / (end - begin), 0, 1)


class BatchRenorm(BatchNorm):
    """Training normalizes towards the moving averages, as prediction will.

    r_max, d_max, r_min (1 / r_max): numbers, or functions of the number of updates so
    far; by default the paper's schedule, which begins as batch norm (1 and 0).
    renorm_clipping: the same as Keras names them, {"rmax", "dmax", "rmin"}.
    renorm_momentum: r and d refer to averages of their own, of the mean and of the
    standard deviation, which move by this weight (as in Keras).

    >>> from mxnet import autograd, np
    >>> layer = bn.BatchRenorm(num_features=3, r_max=3, d_max=5)
    >>> layer.initialize()
    >>> with autograd.record():
    ...     Y = layer(np.random.uniform(size=(8, 3)))
    >>> Y.shape, layer.num_updates.data().item()
    ((8, 3), 1.0)
    """

    variant = "renorm"
    r_max: Limit
    d_max: Limit
    r_min: Limit
    renorm_momentum: float | None
    num_updates: Parameter
    renorm_mean: Parameter
    renorm_std: Parameter

    def __init__(
        self,
        num_features: int | tuple[int, ...] | None = None,
        num_dims: int | None = None,
        eps: float = EPS,
        momentum: float | None = MOMENTUM,
        dtype: Dtype = "float32",
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
        self.renorm_momentum = renorm_momentum
        self.add_scalar("num_updates")
        if renorm_momentum is not None:
            self.add_statistic("renorm_mean", 0)
            self.add_statistic("renorm_std", 1)

    def operands(self, mean: ndarray, var: ndarray, training: bool) -> Operands:
        mean, var, gamma, beta = super().operands(mean, var, training)
        if training:
            like_mean, like_std = (like(mean, v) for v in self.likeness())
            limits = (like(mean, v) for v in self.limits())
            r, d = renorm_factors(mean, var, like_mean, like_std, self.eps, *limits)
            gamma, beta = scale_and_shift(gamma, beta, r, d)
        return mean, var, gamma, beta

    def likeness(self) -> tuple[ndarray, ndarray]:
        """Mean and standard deviation that r and d lead to."""
        if self.renorm_momentum is None:
            mean, var = self.value("moving_mean"), self.value("moving_var")
            return mean, np.sqrt(var + self.eps)
        mean, std = self.value("renorm_mean"), self.value("renorm_std")
        return mean, np.maximum(std, self.eps**0.5)

    def limits(self) -> tuple[Any, ...]:
        """r_max, d_max and r_min of this step."""
        step = self.value("num_updates")
        r_max = ramp(step, 1, 3, 5_000, 40_000) if self.r_max is None else self.r_max
        d_max = ramp(step, 0, 5, 5_000, 25_000) if self.d_max is None else self.d_max
        limits = r_max, d_max, self.r_min
        return tuple(limit(step) if callable(limit) else limit for limit in limits)

    def move(self, mean: ndarray, var: ndarray, n: int | ndarray) -> None:
        if self.renorm_momentum is not None:
            own = self.value("renorm_mean"), self.value("renorm_std")
            std = np.sqrt(var + self.eps)
            like_mean, like_std = update_moving(*own, mean, std, self.renorm_momentum)
            self.put(n > 1, renorm_mean=like_mean, renorm_std=like_std)
        self.put(n > 1, num_updates=self.value("num_updates") + 1)
        super().move(mean, var, n)
