"""The BatchNorm layer of Keras: state, checks and modes around the core.

A variant is a subclass that overrides one step: `batch_stats` (where the statistics
come from), `operands` (what `normalize` is given) or `move` (what becomes of them).
"""

import numbers
from collections.abc import Callable
from typing import Any, TypedDict

import keras
import tensorflow as tf
from tensorflow import Tensor

from bn_from_scratch import checks, combinations, signatures, spec
from bn_from_scratch.backends.tensorflow import statistics as stats
from bn_from_scratch.backends.tensorflow.batch_norm import (
    CHANNEL_AXIS,
    batch_stats,
    normalize,
    shape_of,
    update_moving,
)
from bn_from_scratch.backends.tensorflow.registry import register
from bn_from_scratch.spec import EPS, MOMENTUM, Axis

Dtype = str | tf.DType | keras.DTypePolicy | None
Initializer = float | str | Callable[..., Any]  # a number, or what Keras takes
Regularizer = str | Callable[..., Any] | None
Constraint = str | Callable[..., Any] | None
Operands = tuple[Tensor, Tensor, Tensor, Tensor]  # mean, var, gamma, beta


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
    gamma_regularizer: Regularizer
    beta_regularizer: Regularizer
    gamma_constraint: Constraint
    beta_constraint: Constraint
    activity_regularizer: Regularizer
    trainable: bool
    name: str | None


class LayerOptions(FrozenOptions, total=False):
    """What a variant hands on to the layer by name."""

    frozen: str | None


@register
class BatchNorm(keras.Layer):
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

    needs_values: bool = True  # more than one per channel, in this replica
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
    to_build: dict[str, dict[str, Any]]
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
            autocast=False,
            name=name,
        )
        settings = eps, momentum, axis, correction, statistics, frozen
        checks.check_layer(num_features, num_dims, *settings)
        self.num_features, self.num_dims, self.axis = num_features, num_dims, axis
        self.eps, self.momentum, self.correction = eps, momentum, correction
        self.statistics, self.center, self.scale = statistics, center, scale
        self.gamma_initializer = _initializer(gamma_initializer)
        self.beta_initializer = _initializer(beta_initializer)
        self.moving_mean_initializer = _initializer(moving_mean_initializer)
        self.moving_var_initializer = _initializer(moving_var_initializer)
        self.gamma_regularizer = keras.regularizers.get(gamma_regularizer)
        self.beta_regularizer = keras.regularizers.get(beta_regularizer)
        self.gamma_constraint = keras.constraints.get(gamma_constraint)
        self.beta_constraint = keras.constraints.get(beta_constraint)
        self.supports_masking: bool = True
        self.to_build = {}
        self.add_parameter("gamma", self.gamma_initializer if scale else None)
        self.add_parameter("beta", self.beta_initializer if center else None)
        self.add_statistic("moving_mean", self.moving_mean_initializer)
        self.add_statistic("moving_var", self.moving_var_initializer)
        if momentum is None:
            self.add_scalar("moving_count")
        self.frozen = frozen

    # --- State ---------------------------------------------------------------------

    def add_parameter(self, name: str, initializer: Initializer | None) -> None:
        """A learned [C]; with None there is none."""
        setattr(self, name, None)
        if initializer is not None:
            settings = "regularizer", "constraint"
            settings = {key: getattr(self, f"{name}_{key}") for key in settings}
            self.to_build[name] = settings | {"initializer": initializer}

    def add_statistic(self, name: str, initializer: Initializer, **kwargs: Any) -> None:
        """A [C] that is state, but not learned."""
        # Keras's default aggregation lets the averages of replicas drift apart.
        kwargs |= {"trainable": False, "aggregation": "mean"}
        self.to_build[name] = kwargs | {"initializer": initializer}

    def add_scalar(self, name: str) -> None:
        """A number that is state, from 0."""
        self.add_statistic(name, 0, shape=())

    def build(self, shape: tuple[int, ...]) -> None:
        """Make the variables, for X of this shape."""
        if self.num_features is None:
            checks.check_axis(self.axis, len(shape), f"X has shape {tuple(shape)}")
            sizes = spec.stats_shape(shape, self.axis)
            self.num_features = sizes[0] if len(sizes) == 1 else sizes
        settings = {
            "shape": checks.tuple_of(self.num_features),
            "dtype": at_least_float32(self.variable_dtype),
            "autocast": False,
        }
        for name, own in self.to_build.items():
            own = settings | own
            if isinstance(own["initializer"], numbers.Number):
                # Keras's Constant would round it to float32 on the way.
                own["initializer"] = tf.constant_initializer(own["initializer"])
            setattr(self, name, self.add_weight(name=name, **own))
        self.mark_trainable()

    def put(self, enough: bool | Tensor, **values: Tensor) -> None:
        """Change statistics in place, if there were values enough to take them of."""
        old = tuple(getattr(self, name) for name in values)
        new = stats.select(enough, tuple(values.values()), old)
        for v, value in zip(old, new, strict=True):
            v.assign(value)

    @property
    def frozen(self) -> str | None:
        """None; "affine": gamma and beta are fixed; "all": the statistics too.

        Like `trainable`, a compiled model heeds it from its next `compile`.
        """
        return self._frozen

    @frozen.setter
    def frozen(self, frozen: str | None) -> None:
        checks.check_choice("frozen", frozen, checks.FROZEN)
        self._frozen = frozen
        self.mark_trainable()

    @keras.Layer.trainable.setter
    def trainable(self, trainable: bool) -> None:
        """Also set by a parent, which must not thaw gamma and beta."""
        keras.Layer.trainable.__set__(self, trainable)
        self.mark_trainable()

    def mark_trainable(self) -> None:
        for v in (self.gamma, self.beta):
            if v is not None:
                v.trainable = self.trainable and self.frozen is None

    # --- Forward -------------------------------------------------------------------

    def call(
        self,
        X: Tensor,
        training: bool = False,
        mask: Tensor | None = None,
        update: bool = True,
    ) -> Tensor:
        """`mask`: valid positions.  `update=False` leaves the moving averages alone."""
        training = training and not self.is_fixed()
        needs = (training or self.predicts_by_batch()) and self.needs_values
        sizes = self.num_features, self.num_dims
        checks.check_input(X.shape, X.dtype, self.axis, *sizes, needs)
        if needs and None in X.shape:  # a graph learns its sizes only when it runs
            n = spec.values_per_channel(shape_of(X), self.axis)
            message = "training needs more than one value per channel"
            tf.debugging.assert_none_equal(n, 1, message=message)
        if mask is not None:
            checks.check_mask(mask.shape, X.shape, self.axis)
            wide: Any = mask
            if mask.ndim < X.ndim:
                wide = keras.ops.expand_dims(mask, spec.kept_axes(X.ndim, self.axis))
            mask = tf.cast(wide, tf.bool)
        if training:
            return self.train_forward(X, mask, update)
        return self.eval_forward(X, mask)

    def train_forward(self, X: Tensor, mask: Tensor | None, update: bool) -> Tensor:
        mean, var, n = self.batch_stats(X, mask)
        used = self.or_moving(mean, var, n)
        Y = self.normalize(X, *used, self.axis, training=True)
        if update:
            self.move(tf.stop_gradient(mean), tf.stop_gradient(var), n)
        return Y

    def eval_forward(self, X: Tensor, mask: Tensor | None) -> Tensor:
        mean, var = self.moving_mean, self.moving_var
        if self.predicts_by_batch():
            mean, var = self.or_moving(*BatchNorm.batch_stats(self, X, mask))
        return self.normalize(X, mean, var, self.axis, training=False)

    def or_moving(
        self, mean: Tensor, var: Tensor, n: int | Tensor
    ) -> tuple[Tensor, Tensor]:
        """These statistics, or the moving ones if fewer than two values gave them."""
        moving = self.moving_mean, self.moving_var
        mean, var = stats.select(n > 1, (mean, var), moving)
        return mean, var

    def predicts_by_batch(self) -> bool:
        return self.statistics == "batch" and not self.is_fixed()

    def is_fixed(self) -> bool:
        """`trainable=False` of a batch norm means prediction, as in Keras's own."""
        return self.frozen == "all" or not self.trainable

    # --- The steps a variant overrides ---------------------------------------------

    def batch_stats(
        self, X: Tensor, mask: Tensor | None
    ) -> tuple[Tensor, Tensor, int | Tensor]:
        """Where the statistics come from.  -> mean [C], var [C], values per channel."""
        if mask is not None:
            return stats.masked_stats(X, mask, self.axis)
        n = spec.values_per_channel(shape_of(X), self.axis)
        return *batch_stats(X, self.axis), n

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

    def get_config(self) -> dict[str, Any]:
        to_file, arguments = keras.saving.serialize_keras_object, self.arguments()
        config = {name: to_file(value) for name, value in arguments.items()}
        return super().get_config() | config

    def arguments(self) -> dict[str, Any]:
        """{name: value}: what the constructor was given, but for Keras's own."""
        names = "num_features", "num_dims", "eps", "momentum", "axis", "center", "scale"
        names += "correction", "statistics", "frozen"
        names += "gamma_initializer", "beta_initializer"
        names += "moving_mean_initializer", "moving_var_initializer"
        names += "gamma_regularizer", "beta_regularizer"
        names += "gamma_constraint", "beta_constraint"
        return {name: getattr(self, name) for name in names}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "BatchNorm":
        from_file = keras.saving.deserialize_keras_object
        return super().from_config({k: from_file(v) for k, v in config.items()})


def at_least_float32(dtype: str) -> str:
    """The dtype of the parameters: 16-bit inputs are normalized in float32."""
    return "float32" if tf.as_dtype(dtype).size < 4 else dtype


def _initializer(value: Initializer) -> Any:
    """A number stays one; of all else Keras makes its initializer."""
    return value if isinstance(value, numbers.Number) else keras.initializers.get(value)
