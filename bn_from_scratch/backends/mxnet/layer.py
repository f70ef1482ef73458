"""The BatchNorm layer of Gluon: state, checks and modes around the core.

A variant is a subclass that overrides one step: `batch_stats` (where the statistics
come from), `operands` (what `normalize` is given) or `move` (what becomes of them).
"""

import numbers
from typing import Any, TypedDict

import mxnet
import numpy
from mxnet import autograd, np
from mxnet.gluon import Parameter, nn
from mxnet.numpy import ndarray

from bn_from_scratch import checks, combinations, signatures, spec
from bn_from_scratch.backends.mxnet import statistics as stats
from bn_from_scratch.backends.mxnet.batch_norm import (
    CHANNEL_AXIS,
    batch_stats,
    normalize,
    promote,
    update_moving,
)
from bn_from_scratch.backends.mxnet.dtypes import check_array, like
from bn_from_scratch.backends.mxnet.overflow import in_range
from bn_from_scratch.backends.mxnet.parameters import NOT_LEARNED, Fill, Scalar, Wide
from bn_from_scratch.spec import EPS, MOMENTUM, Axis

Dtype = str | type | numpy.dtype | None
Initializer = float | str | mxnet.init.Initializer  # a number, MXNet's own or its name
Operands = tuple[ndarray, ndarray, ndarray, ndarray]  # mean, var, gamma, beta


class FrozenOptions(TypedDict, total=False):
    """What a variant hands on to the layer by name; `frozen` is its own affair."""

    axis: Axis
    center: bool
    scale: bool
    correction: int
    statistics: str
    gamma_initializer: Initializer
    beta_initializer: Initializer
    moving_mean_initializer: Initializer
    moving_var_initializer: Initializer


class LayerOptions(FrozenOptions, total=False):
    """What a variant hands on to the layer by name."""

    frozen: str | None


class BatchNorm(nn.Block):
    """Batch normalization with learned scale and shift.  X [N, C, *] -> same.

    `autograd.record()` and its `train_mode` choose the mode.  Without `num_features`
    the first call infers it; without `num_dims` X may have any number of axes.  X is an
    array of mx.np: this package puts MXNet in NumPy mode, for the whole process.
    momentum: weight of the new batch; None pools all batches so far.
    axis: the channel axis, or several.  center, scale: whether to have beta, gamma.
    correction: 1 stores the unbiased variance.  statistics: "batch" predicts with those
    of the batch.  frozen: "affine" fixes gamma and beta; "all" the statistics too.
    *_initializer: a number, or an initializer (mxnet.init) or its name.

    >>> layer = bn.BatchNorm(num_features=3)
    >>> layer.initialize()
    >>> with autograd.record():
    ...     Y = layer(np.random.uniform(size=(8, 3, 4, 4)))
    >>> Y.shape, layer.moving_mean.shape
    ((8, 3, 4, 4), (3,))

    The methods below are the seams for subclasses: those under State make and change
    what is kept, those under Forward and Steps are what a variant overrides.
    """

    needs_values: bool = True  # more than one per channel, in this replica
    num_dims: int | None
    axis: Axis
    eps: float
    momentum: float | None
    correction: int
    statistics: str
    dtype: str
    gamma: Parameter | None
    beta: Parameter | None
    moving_mean: Parameter
    moving_var: Parameter
    moving_count: Parameter

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        combinations.check_class(cls)
        signatures.sign(cls, BatchNorm)

    def __init__(
        self,
        num_features: int | tuple[int, ...] | None = None,
        num_dims: int | None = None,
        eps: float = EPS,
        momentum: float | None = MOMENTUM,
        dtype: Dtype = "float32",
        *,
        axis: Axis = CHANNEL_AXIS,
        center: bool = True,
        scale: bool = True,
        correction: int = 0,
        statistics: str = "moving",
        frozen: str | None = None,
        gamma_initializer: Initializer = 1,
        beta_initializer: Initializer = 0,
        moving_mean_initializer: Initializer = 0,
        moving_var_initializer: Initializer = 1,
    ) -> None:
        super().__init__()
        settings = eps, momentum, axis, correction, statistics, frozen
        checks.check_layer(num_features, num_dims, *settings)
        self.num_dims, self.axis = num_dims, axis
        self.eps, self.momentum, self.correction = eps, momentum, correction
        self.statistics = statistics
        unknown = (0,) * numpy.size(axis)  # a size 0 may follow
        self._shape = unknown if num_features is None else checks.tuple_of(num_features)
        self.dtype = at_least_float32(dtype)
        self.add_parameter("gamma", gamma_initializer if scale else None)
        self.add_parameter("beta", beta_initializer if center else None)
        self.add_statistic("moving_mean", moving_mean_initializer)
        self.add_statistic("moving_var", moving_var_initializer)
        if momentum is None:
            self.add_scalar("moving_count")
        self.frozen = frozen

    # --- State ---------------------------------------------------------------------

    def add_parameter(self, name: str, initializer: Initializer | None) -> None:
        """A learned [C]; with None there is none."""
        added = None if initializer is None else self._parameter(name, initializer)
        setattr(self, name, added)

    def add_statistic(self, name: str, initializer: Initializer) -> None:
        """A [C] that is state, but not learned."""
        setattr(self, name, self._parameter(name, initializer, **NOT_LEARNED))

    def add_scalar(self, name: str) -> None:
        """A number that is state, from 0."""
        kind = {"shape": (), "dtype": self.dtype, "init": Fill(0)}
        scalar = Scalar(self.prefix + name, **kind, **NOT_LEARNED)
        self.params.update({scalar.name: scalar})
        setattr(self, name, scalar)

    def _parameter(self, name: str, initializer: Initializer, **kind: Any) -> Parameter:
        number = isinstance(initializer, numbers.Number)
        kind["init"] = Fill(initializer) if number else initializer
        kind |= {"shape": self._shape, "dtype": self.dtype, "allow_deferred_init": True}
        p = Wide(self.prefix + name, **kind)
        self.params.update({p.name: p})
        return p

    def build(self, shape: tuple[int, ...]) -> None:
        """Give what has no shape yet its shape and its initial value."""
        for p in self._reg_params.values():
            if p._deferred_init:
                p.shape = shape
                p._finish_deferred_init()

    @property
    def num_features(self) -> int | tuple[int, ...] | None:
        """None until the first call, or until parameters are loaded."""
        shape = self.moving_mean.shape
        if min(shape) < 1:
            return None
        return shape[0] if len(shape) == 1 else shape

    def value(self, name: str) -> ndarray:
        """A parameter on the context of this call, or a copy of a statistic.

        Not the statistic itself: MXNet refuses to change what has been recorded.
        """
        p = getattr(self, name)
        v = p.data(mxnet.current_context())
        return v if p.grad_req != "null" else v.detach().copy()

    def put(self, enough: bool | ndarray, **values: ndarray) -> None:
        """Change statistics in place, if there were values enough to take them of."""
        old = tuple(self.value(name) for name in values)
        new = stats.select(enough, tuple(values.values()), old)
        for name, value in zip(values, new, strict=True):
            getattr(self, name).data(mxnet.current_context())[()] = value

    def cast(self, dtype: Dtype) -> None:
        self.dtype = at_least_float32(dtype)
        super().cast(self.dtype)

    @property
    def frozen(self) -> str | None:
        """None; "affine": gamma and beta are fixed; "all": the statistics too."""
        return self._frozen

    @frozen.setter
    def frozen(self, frozen: str | None) -> None:
        checks.check_choice("frozen", frozen, checks.FROZEN)
        self._frozen = frozen
        for p in (self.gamma, self.beta):
            if p is not None:
                p.grad_req = "write" if frozen is None else "null"

    # --- Forward -------------------------------------------------------------------

    def __call__(
        self, X: ndarray, mask: ndarray | None = None, update: bool = True
    ) -> ndarray:
        """Gluon's own takes no keywords."""
        return super().__call__(X, mask, update)

    def forward(
        self, X: ndarray, mask: ndarray | None = None, update: bool = True
    ) -> ndarray:
        """`mask`: valid positions.  `update=False` leaves the moving averages alone."""
        check_array("X", X)
        training = autograd.is_training() and self.frozen != "all"
        needs = (training or self.predicts_by_batch()) and self.needs_values
        sizes = self.num_features, self.num_dims
        checks.check_input(X.shape, X.dtype, self.axis, *sizes, needs)
        self.build(spec.stats_shape(X.shape, self.axis))
        if mask is not None:
            check_array("the mask", mask)
            shape = checks.check_mask(mask.shape, X.shape, self.axis)
            mask = mask.reshape(shape).astype(bool)
            X = stats.clear_padding(X, mask)
        with X.ctx:
            if training:
                return self.train_forward(X, mask, update)
            return self.eval_forward(X, mask)

    def train_forward(self, X: ndarray, mask: ndarray | None, update: bool) -> ndarray:
        """Normalize by the batch, and move the averages."""
        dtype, X = X.dtype, promote(X)  # once, or dX is rounded twice
        mean, var, n = self.batch_stats(X, mask)
        used = self.or_moving(mean, var, n)
        Y = self.normalize(X, *used, self.axis, training=True)
        if update:
            self.move(mean.detach(), var.detach(), n)
        return Y.astype(dtype, copy=False)

    def eval_forward(self, X: ndarray, mask: ndarray | None) -> ndarray:
        """Normalize by the moving averages, or as `statistics` says."""
        dtype, X = X.dtype, promote(X)
        mean, var = self.value("moving_mean"), self.value("moving_var")
        if self.predicts_by_batch():
            mean, var = self.or_moving(*BatchNorm.batch_stats(self, X, mask))
        Y = self.normalize(X, mean, var, self.axis, training=False)
        return Y.astype(dtype, copy=False)

    def or_moving(
        self, mean: ndarray, var: ndarray, n: int | ndarray
    ) -> tuple[ndarray, ndarray]:
        """These statistics, or the moving ones where fewer than two gave them."""
        moving = self.value("moving_mean"), self.value("moving_var")
        mean, var = stats.select(n > 1, (mean, var), moving)
        return mean, var

    def predicts_by_batch(self) -> bool:
        """Does prediction take the statistics of the batch?"""
        return self.statistics == "batch" and self.frozen != "all"

    # --- Steps: what a variant overrides -------------------------------------------

    def batch_stats(
        self, X: ndarray, mask: ndarray | None
    ) -> tuple[ndarray, ndarray, int | ndarray]:
        """Where the statistics come from.  -> mean [C], var [C], values per channel."""
        if 0 in X.shape:
            nothing = np.zeros_like(self.value("moving_mean"))
            return nothing, nothing, 0
        if mask is not None:
            mean, var, n = stats.masked_stats(X, mask, self.axis)
            return mean, in_range(X, var), n
        mean, var = batch_stats(X, self.axis)
        n = spec.values_per_channel(X.shape, self.axis)
        return mean, in_range(X, var), n

    def normalize(
        self, X: ndarray, mean: ndarray, var: ndarray, axis: Axis, training: bool
    ) -> ndarray:
        """X by these statistics, scaled and shifted.  -> like X."""
        return normalize(X, *self.operands(mean, var, training), self.eps, axis)

    def operands(self, mean: ndarray, var: ndarray, training: bool) -> Operands:
        """What `normalize` is given: mean, var, gamma, beta."""
        gamma = np.ones_like(mean) if self.gamma is None else self.value("gamma")
        beta = np.zeros_like(mean) if self.beta is None else self.value("beta")
        return mean, var, like(mean, gamma), like(mean, beta)

    def move(self, mean: ndarray, var: ndarray, n: int | ndarray) -> None:
        """Put a batch of n values per channel into the moving averages."""
        moving = self.value("moving_mean"), self.value("moving_var")
        if self.momentum is None:
            so_far = *moving, self.value("moving_count")
            mean, var, count = stats.cumulate(*so_far, mean, var, n, self.correction)
            self.put(n > 1, moving_mean=mean, moving_var=var, moving_count=count)
        else:
            var = stats.unbiased(var, n, self.correction)
            mean, var = update_moving(*moving, mean, var, self.momentum)
            self.put(n > 1, moving_mean=mean, moving_var=var)

    def __repr__(self) -> str:
        settings = f"{self.num_features}, eps={self.eps}, momentum={self.momentum}"
        return f"{type(self).__name__}({settings})"


def at_least_float32(dtype: Dtype) -> str:
    """The dtype of the parameters: 16-bit inputs are normalized in float32."""
    name = dtype if isinstance(dtype, str) else numpy.dtype(dtype or "float32").name
    checks.check_dtype(name)
    return "float64" if name == "float64" else "float32"
