"""The BatchNorm layer of Keras: state, checks and modes around the core.

A variant is a subclass that overrides one step: `batch_stats` (where the statistics
come from), `operands` (what `normalize` is given) or `move` (what becomes of them).
"""

from typing import Any

import keras
import tensorflow as tf
from tensorflow import Tensor

from bn_from_scratch import checks, combinations, signatures, spec
from bn_from_scratch.backends.tensorflow import statistics as stats
from bn_from_scratch.backends.tensorflow.batch_norm import (
    CHANNEL_AXIS,
    batch_stats,
    normalize,
    promote,
    shape_of,
    update_moving,
)
from bn_from_scratch.backends.tensorflow.door import Door
from bn_from_scratch.backends.tensorflow.options import (
    ARGUMENTS,
    Constraint,
    Dtype,
    Initializer,
    Regularizer,
)
from bn_from_scratch.backends.tensorflow.overflow import in_range
from bn_from_scratch.backends.tensorflow.protocol import initializer_of
from bn_from_scratch.backends.tensorflow.recomputation import recomputing
from bn_from_scratch.backends.tensorflow.registry import register
from bn_from_scratch.spec import EPS, MOMENTUM, Axis

Operands = tuple[Tensor, Tensor, Tensor, Tensor]  # mean, var, gamma, beta


@register
class BatchNorm(Door):
    """Batch normalization with learned scale and shift.  X [N, *, C] -> same.

    `layer(X, training=True)` chooses the mode; `trainable=False` means prediction.
    Without `num_features` the first call infers it; without `num_dims` X may have any
    number of axes.
    momentum: weight of the new batch; None pools all batches so far.
    axis: the channel axis, or several.  center, scale: is there a beta, a gamma?
    correction: 1 stores the unbiased variance.  statistics: "batch" predicts with those
    of the batch.  frozen: "affine" fixes gamma and beta; "all" the statistics too.
    *_initializer: a number, or what Keras takes, as for *_regularizer, *_constraint.

    >>> import tensorflow as tf
    >>> layer = bn.BatchNorm(num_features=3)
    >>> layer(tf.random.normal([8, 4, 4, 3]), training=True).shape
    TensorShape([8, 4, 4, 3])
    >>> layer.moving_mean.shape
    TensorShape([3])

    The methods below are the seams for subclasses: those under State make and change
    what is kept, those under Forward and Steps are what a variant overrides.
    """

    follows_averages: bool = False  # does Y in training depend on those it moves?
    num_features: int | tuple[int, ...] | None
    num_dims: int | None
    axis: Axis
    eps: float
    momentum: float | None
    correction: int
    statistics: str
    center: bool
    scale: bool
    gamma_initializer: Initializer
    beta_initializer: Initializer
    moving_mean_initializer: Initializer
    moving_var_initializer: Initializer
    gamma_regularizer: Any  # what Keras makes of the argument
    beta_regularizer: Any
    gamma_constraint: Any
    beta_constraint: Any
    gamma: keras.Variable | None
    beta: keras.Variable | None
    moving_mean: keras.Variable
    moving_var: keras.Variable
    moving_count: keras.Variable

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        combinations.check_class(cls)
        signatures.sign(cls, BatchNorm)
        register(cls)

    def __init__(
        self,
        num_features: int | tuple[int, ...] | None = None,
        num_dims: int | None = None,
        eps: float = EPS,
        momentum: float | None = MOMENTUM,
        dtype: Dtype = None,
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
        gamma_regularizer: Regularizer = None,
        beta_regularizer: Regularizer = None,
        gamma_constraint: Constraint = None,
        beta_constraint: Constraint = None,
        activity_regularizer: Regularizer = None,
        trainable: bool = True,
        name: str | None = None,
    ) -> None:
        super().__init__(
            activity_regularizer=activity_regularizer,
            trainable=trainable,
            dtype=dtype,
            name=name,
        )
        settings = eps, momentum, axis, correction, statistics, frozen
        checks.check_layer(num_features, num_dims, *settings)
        self.num_features, self.num_dims, self.axis = num_features, num_dims, axis
        self.eps, self.momentum, self.correction = eps, momentum, correction
        self.statistics, self.center, self.scale = statistics, center, scale
        self.gamma_initializer = initializer_of(gamma_initializer)
        self.beta_initializer = initializer_of(beta_initializer)
        self.moving_mean_initializer = initializer_of(moving_mean_initializer)
        self.moving_var_initializer = initializer_of(moving_var_initializer)
        self.gamma_regularizer = keras.regularizers.get(gamma_regularizer)
        self.beta_regularizer = keras.regularizers.get(beta_regularizer)
        self.gamma_constraint = keras.constraints.get(gamma_constraint)
        self.beta_constraint = keras.constraints.get(beta_constraint)
        self.add_parameter("gamma", self.gamma_initializer if scale else None)
        self.add_parameter("beta", self.beta_initializer if center else None)
        self.add_statistic("moving_mean", self.moving_mean_initializer)
        self.add_statistic("moving_var", self.moving_var_initializer)
        if momentum is None:
            self.add_scalar("moving_count")
        self.frozen = frozen

    # --- State ---------------------------------------------------------------------

    def build(self, shape: tuple[int, ...]) -> None:
        """Make the variables, for X of this shape."""
        if self.num_features is None:
            checks.check_axis(self.axis, len(shape), f"X has shape {tuple(shape)}")
            checks.check_known(shape, self.axis)
            sizes = spec.stats_shape(shape, self.axis)
            self.num_features = sizes[0] if len(sizes) == 1 else sizes
        self.make_variables(at_least_float32(self.variable_dtype))
        self.mark_trainable()

    def put(self, enough: bool | Tensor, **values: Tensor) -> None:
        """Change statistics in place, if there were values enough to take them of."""
        old = tuple(getattr(self, name) for name in values)
        new = stats.select(enough, tuple(values.values()), old)
        for v, value in zip(old, new, strict=True):
            v.assign(value)

    # --- Forward -------------------------------------------------------------------

    def call(
        self,
        X: Tensor,
        training: bool = False,
        mask: Tensor | None = None,
        update: bool = True,
    ) -> Tensor:
        """`mask`: valid positions.  `update=False` leaves the moving averages alone.

        So does the second run of tf.recompute_grad: a batch counts once.
        """
        training = training and not self.is_fixed()
        X, mask = self.let_in(X, training, mask)
        if mask is not None:
            X = stats.clear_padding(X, mask)
        if training and update and recomputing():
            checks.check_recomputation(self.follows_averages)
            update = False  # the first run has counted this batch
        if training:
            return self.train_forward(X, mask, update)
        return self.eval_forward(X, mask)

    def train_forward(self, X: Tensor, mask: Tensor | None, update: bool) -> Tensor:
        dtype, X = X.dtype, promote(X)  # once, or dX is rounded twice
        mean, var, n = self.batch_stats(X, mask)
        used = self.or_moving(mean, var, n)
        Y = self.normalize(X, *used, self.axis, training=True)
        if update:
            self.move(tf.stop_gradient(mean), tf.stop_gradient(var), n)
        return tf.cast(Y, dtype)

    def eval_forward(self, X: Tensor, mask: Tensor | None) -> Tensor:
        dtype, X = X.dtype, promote(X)
        mean, var = self.moving_mean, self.moving_var
        if self.predicts_by_batch():
            mean, var = self.or_moving(*BatchNorm.batch_stats(self, X, mask))
        Y = self.normalize(X, mean, var, self.axis, training=False)
        return tf.cast(Y, dtype)

    def or_moving(
        self, mean: Tensor, var: Tensor, n: int | Tensor
    ) -> tuple[Tensor, Tensor]:
        """These statistics, or the moving ones if fewer than two values gave them."""
        moving = self.moving_mean, self.moving_var
        mean, var = stats.select(n > 1, (mean, var), moving)
        return mean, var

    def predicts_by_batch(self) -> bool:
        return self.statistics == "batch" and not self.is_fixed()

    # --- The steps a variant overrides ---------------------------------------------

    def batch_stats(
        self, X: Tensor, mask: Tensor | None
    ) -> tuple[Tensor, Tensor, int | Tensor]:
        """Where the statistics come from.  -> mean [C], var [C], values per channel."""
        if mask is not None:
            mean, var, n = stats.masked_stats(X, mask, self.axis)
            return mean, in_range(X, var), n
        mean, var = batch_stats(X, self.axis)
        n = spec.values_per_channel(shape_of(X), self.axis)
        return mean, in_range(X, var), n

    def normalize(
        self, X: Tensor, mean: Tensor, var: Tensor, axis: Axis, training: bool
    ) -> Tensor:
        return normalize(X, *self.operands(mean, var, training), self.eps, axis)

    def operands(self, mean: Tensor, var: Tensor, training: bool) -> Operands:
        """What `normalize` is given: mean, var, gamma, beta."""
        mean, var = tf.convert_to_tensor(mean), tf.convert_to_tensor(var)
        gamma = tf.ones_like(mean) if self.gamma is None else self.gamma
        beta = tf.zeros_like(mean) if self.beta is None else self.beta
        return mean, var, tf.cast(gamma, mean.dtype), tf.cast(beta, mean.dtype)

    def move(self, mean: Tensor, var: Tensor, n: int | Tensor) -> None:
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

    # --- Files ---------------------------------------------------------------------

    def arguments(self) -> dict[str, Any]:
        """{name: value}: what the constructor was given, but for Keras's own."""
        return {name: getattr(self, name) for name in ARGUMENTS}


def at_least_float32(dtype: str) -> str:
    """The dtype of the parameters: 16-bit inputs are normalized in float32."""
    checks.check_dtype(dtype)
    return "float64" if dtype == "float64" else "float32"
