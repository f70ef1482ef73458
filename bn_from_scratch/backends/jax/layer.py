"""The BatchNorm layer of Flax: state, checks and modes around the core.

A variant is a subclass that overrides one step: `batch_stats` (where the statistics
come from), `operands` (what `normalize` is given) or `move` (what becomes of them).
"""

from collections.abc import Callable
from dataclasses import KW_ONLY
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import Array
from jax.lax import stop_gradient
from jax.typing import DTypeLike

from bn_from_scratch import checks, combinations, spec
from bn_from_scratch.backends.jax import statistics as stats
from bn_from_scratch.backends.jax.batch_norm import (
    CHANNEL_AXIS,
    batch_stats,
    normalize,
    promote,
    update_moving,
)
from bn_from_scratch.backends.jax.overflow import in_range
from bn_from_scratch.backends.jax.signatures import sign
from bn_from_scratch.backends.jax.symbols import values_per_channel
from bn_from_scratch.spec import EPS, MOMENTUM, Axis

# A number, or a function of key, shape and dtype.
Initializer = float | Callable[..., Any]
Operands = tuple[Array, Array, Array, Array]  # mean, var, gamma, beta


@sign
class BatchNorm(nn.Module):
    """Batch normalization with learned scale and shift.  X [N, *, C] -> same.

    `training` of a call chooses the mode.  Without `num_features` `init` infers it;
    without `num_dims` X may have any number of axes.  The statistics are the collection
    "batch_stats": make it mutable when they are to move.  `init` leaves them alone.
    momentum: weight of the new batch; None pools all batches so far.
    axis: the channel axis, or several.  center, scale: is there a beta, a gamma.
    correction: 1 stores the unbiased variance.  statistics: "batch" predicts with those
    of the batch.  frozen: "affine" fixes gamma and beta; "all" the statistics too;
    `layer.clone(frozen="all")` takes the same variables.
    *_initializer: a number, or a function of key, shape and dtype (nn.initializers).

    >>> import jax
    >>> import jax.numpy as jnp
    >>> layer, X = bn.BatchNorm(num_features=3), jnp.ones([8, 4, 4, 3])
    >>> variables = layer.init(jax.random.key(0), X, training=False)
    >>> Y, moved = layer.apply(variables, X, training=True, mutable=["batch_stats"])
    >>> Y.shape, moved["batch_stats"]["moving_mean"].shape
    ((8, 4, 4, 3), (3,))

    The methods below are the seams for subclasses: those under State make and change
    what is kept, those under Forward and Steps are what a variant overrides.
    """

    num_features: int | tuple[int, ...] | None = None
    num_dims: int | None = None
    eps: float = EPS
    momentum: float | None = MOMENTUM
    dtype: DTypeLike = "float32"
    _: KW_ONLY
    axis: Axis = CHANNEL_AXIS
    center: bool = True
    scale: bool = True
    correction: int = 0
    statistics: str = "moving"
    frozen: str | None = None
    gamma_initializer: Initializer = 1
    beta_initializer: Initializer = 0
    moving_mean_initializer: Initializer = 0
    moving_var_initializer: Initializer = 1

    needs_values = True  # more than one per channel, in this replica

    def __init_subclass__(cls, kw_only: bool = True, **kwargs: Any) -> None:
        super().__init_subclass__(kw_only=kw_only, **kwargs)
        combinations.check_class(cls)
        sign(cls)

    def __post_init__(self) -> None:
        settings = self.eps, self.momentum, self.axis, self.correction
        modes = self.statistics, self.frozen
        checks.check_layer(self.num_features, self.num_dims, *settings, *modes)
        self.dtype = at_least_float32(self.dtype)
        super().__post_init__()

    # --- State ---------------------------------------------------------------------

    def build(self, shape: tuple[int, ...]) -> None:
        """Declare the variables; `init` gives them their shape and initial value."""
        gamma = self.gamma_initializer if self.scale else None
        self.add_parameter("gamma", gamma, shape)
        beta = self.beta_initializer if self.center else None
        self.add_parameter("beta", beta, shape)
        self.add_statistic("moving_mean", self.moving_mean_initializer, shape)
        self.add_statistic("moving_var", self.moving_var_initializer, shape)
        if self.momentum is None:
            self.add_scalar("moving_count")

    def add_parameter(
        self, name: str, initializer: Initializer | None, shape: tuple[int, ...]
    ) -> None:
        """A learned [C]; with None there is none."""
        if initializer is not None:
            if not callable(initializer):
                initializer = nn.initializers.constant(initializer)
            self.param(name, initializer, shape, self.dtype)

    def add_statistic(
        self, name: str, initializer: Initializer, shape: tuple[int, ...]
    ) -> None:
        """A [C] that is state, but not learned."""

        def initial_value():
            if callable(initializer):
                return initializer(self.make_rng("params"), shape, self.dtype)
            return jnp.full(shape, initializer, self.dtype)

        self.variable("batch_stats", name, initial_value)

    def add_scalar(self, name: str) -> None:
        """A number that is state, from 0."""
        self.add_statistic(name, 0, ())

    @nn.nowrap
    def __getattr__(self, name: str) -> Any:
        """A parameter or a statistic: a Flax module has its variables beside it.

        Of variables that were cast to 16 bits the statistics become float32 again.
        """
        for collection in ("params", "batch_stats"):
            if self.scope is not None and self.has_variable(collection, name):
                return promote(nn.unbox(self.get_variable(collection, name)))
        return super().__getattr__(name)

    def put(self, enough: bool | Array, **values: Array) -> None:
        """Change statistics, if there were values enough to take them of."""
        if self.is_initializing():  # init sees dummy data
            return
        if not self.is_mutable_collection("batch_stats"):
            raise ValueError(
                'training moves the statistics: give apply mutable=["batch_stats"], '
                "or the layer update=False"
            )
        old = tuple(getattr(self, name) for name in values)
        new = stats.select(enough, tuple(values.values()), old)
        for name, v, value in zip(values, old, new, strict=True):
            self.put_variable("batch_stats", name, value.astype(v.dtype))

    # --- Forward -------------------------------------------------------------------

    @nn.compact
    def __call__(
        self, X: Array, training: bool, mask: Array | None = None, update: bool = True
    ) -> Array:
        """`mask`: valid positions.  `update=False` leaves the moving averages alone."""
        training = training and self.frozen != "all"
        by_batch = self.predicts_by_batch() and not self.is_initializing()
        needs = (training or by_batch) and self.needs_values
        sizes = self.known_features(), self.num_dims
        checks.check_input(X.shape, X.dtype, self.axis, *sizes, needs)
        self.build(spec.stats_shape(X.shape, self.axis))
        if mask is not None:
            shape = checks.check_mask(mask.shape, X.shape, self.axis)
            mask = mask.reshape(shape).astype(bool)
            X = stats.clear_padding(X, mask)
        if training:
            return self.train_forward(X, mask, update)
        return self.eval_forward(X, mask)

    def known_features(self) -> int | tuple[int, ...] | None:
        """`num_features`, or the sizes that `init` inferred, or None."""
        built = self.has_variable("batch_stats", "moving_mean")
        inferred = self.moving_mean.shape if built else None
        return inferred if self.num_features is None else self.num_features

    def train_forward(self, X: Array, mask: Array | None, update: bool) -> Array:
        dtype, X = X.dtype, promote(X)  # once, or dX is rounded twice
        mean, var, n = self.batch_stats(X, mask)
        used = self.or_moving(mean, var, n)
        Y = self.normalize(X, *used, self.axis, training=True)
        if update:
            self.move(stop_gradient(mean), stop_gradient(var), n)
        return Y.astype(dtype)

    def eval_forward(self, X: Array, mask: Array | None) -> Array:
        dtype, X = X.dtype, promote(X)
        mean, var = self.moving_mean, self.moving_var
        if self.predicts_by_batch():
            mean, var = self.or_moving(*BatchNorm.batch_stats(self, X, mask))
        Y = self.normalize(X, mean, var, self.axis, training=False)
        return Y.astype(dtype)

    def or_moving(self, mean: Array, var: Array, n: int | Array) -> tuple[Array, Array]:
        """These statistics, or the moving ones if fewer than two values gave them."""
        moving = self.moving_mean, self.moving_var
        mean, var = stats.select(n > 1, (mean, var), moving)
        return mean, var

    def predicts_by_batch(self) -> bool:
        return self.statistics == "batch" and self.frozen != "all"

    # --- The steps a variant overrides ---------------------------------------------

    def batch_stats(
        self, X: Array, mask: Array | None
    ) -> tuple[Array, Array, int | Array]:
        """Where the statistics come from.  -> mean [C], var [C], values per channel."""
        if 0 in X.shape:
            nothing = jnp.zeros_like(self.moving_mean)
            return nothing, nothing, 0
        if mask is not None:
            mean, var, n = stats.masked_stats(X, mask, self.axis)
            return mean, in_range(X, var), n
        mean, var = batch_stats(X, self.axis)
        n = values_per_channel(X, self.axis)
        return mean, in_range(X, var), n

    def normalize(
        self, X: Array, mean: Array, var: Array, axis: Axis, training: bool
    ) -> Array:
        return normalize(X, *self.operands(mean, var, training), self.eps, axis)

    def operands(self, mean: Array, var: Array, training: bool) -> Operands:
        """What `normalize` is given: mean, var, gamma, beta."""
        gamma = self.gamma if self.scale else jnp.ones_like(mean)
        beta = self.beta if self.center else jnp.zeros_like(mean)
        if self.frozen is not None:
            gamma, beta = stop_gradient((gamma, beta))
        return mean, var, gamma, beta

    def move(self, mean: Array, var: Array, n: int | Array) -> None:
        """Put a batch of n values per channel into the moving averages."""
        moving = self.moving_mean, self.moving_var
        if self.momentum is None:
            so_far = *moving, self.moving_count
            mean, var, count = stats.cumulate(*so_far, mean, var, n, self.correction)
            self.put(n > 1, moving_mean=mean, moving_var=var, moving_count=count)
        else:
            var = stats.unbiased(var, n, self.correction)
            mean, var = update_moving(*moving, mean, var, self.momentum)
            self.put(n > 1, moving_mean=mean, moving_var=var)


def at_least_float32(dtype: DTypeLike) -> np.dtype:
    """The dtype of the parameters: 16-bit inputs are normalized in float32."""
    name = dtype if isinstance(dtype, str) else jnp.dtype(dtype or "float32").name
    checks.check_dtype(name)
    return jnp.promote_types(name, jnp.float32)
