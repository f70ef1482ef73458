"""The BatchNorm layer of Keras: state, checks and modes around the core.

A variant is a subclass that overrides one step: `batch_stats` (where the statistics
come from), `operands` (what `normalize` is given) or `move` (what becomes of them).
"""

import numbers

import keras
import tensorflow as tf

from bn_from_scratch import checks, combinations, spec
from bn_from_scratch.backends.tensorflow import statistics as stats
from bn_from_scratch.backends.tensorflow.batch_norm import (
    CHANNEL_AXIS,
    batch_stats,
    normalize,
    shape_of,
    update_moving,
)
from bn_from_scratch.spec import EPS, MOMENTUM

register = keras.saving.register_keras_serializable("bn_from_scratch")


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
    """

    needs_values = True  # more than one per channel, in this replica

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        combinations.check_class(cls)
        register(cls)

    def __init__(
        self,
        num_features=None,
        num_dims=None,
        eps=EPS,
        momentum=MOMENTUM,
        dtype=None,
        *,
        axis=CHANNEL_AXIS,
        center=True,
        scale=True,
        correction=0,
        statistics="moving",
        frozen=None,
        gamma_initializer=1,
        beta_initializer=0,
        moving_mean_initializer=0,
        moving_var_initializer=1,
        gamma_regularizer=None,
        beta_regularizer=None,
        gamma_constraint=None,
        beta_constraint=None,
        **kwargs,
    ):
        super().__init__(dtype=dtype, autocast=False, **kwargs)
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
        self.supports_masking, self.to_build = True, {}
        self.add_parameter("gamma", self.gamma_initializer if scale else None)
        self.add_parameter("beta", self.beta_initializer if center else None)
        self.add_statistic("moving_mean", self.moving_mean_initializer)
        self.add_statistic("moving_var", self.moving_var_initializer)
        if momentum is None:
            self.add_scalar("moving_count")
        self.frozen = frozen

    # --- State ---------------------------------------------------------------------

    def add_parameter(self, name, initializer):
        """A learned [C]; with None there is none."""
        setattr(self, name, None)
        if initializer is not None:
            settings = "regularizer", "constraint"
            settings = {key: getattr(self, f"{name}_{key}") for key in settings}
            self.to_build[name] = settings | {"initializer": initializer}

    def add_statistic(self, name, initializer, **kwargs):
        """A [C] that is state, but not learned."""
        # Keras's default aggregation lets the averages of replicas drift apart.
        kwargs |= {"trainable": False, "aggregation": "mean"}
        self.to_build[name] = kwargs | {"initializer": initializer}

    def add_scalar(self, name):
        """A number that is state, from 0."""
        self.add_statistic(name, 0, shape=())

    def build(self, shape):
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

    def put(self, enough, **values):
        """Change statistics in place, if there were values enough to take them of."""
        old = tuple(getattr(self, name) for name in values)
        new = stats.select(enough, tuple(values.values()), old)
        for v, value in zip(old, new, strict=True):
            v.assign(value)

    @property
    def frozen(self):
        """None; "affine": gamma and beta are fixed; "all": the statistics too.

        Like `trainable`, a compiled model heeds it from its next `compile`.
        """
        return self._frozen

    @frozen.setter
    def frozen(self, frozen):
        checks.check_choice("frozen", frozen, checks.FROZEN)
        self._frozen = frozen
        self.mark_trainable()

    @keras.Layer.trainable.setter
    def trainable(self, trainable):
        """Also set by a parent, which must not thaw gamma and beta."""
        keras.Layer.trainable.fset(self, trainable)
        self.mark_trainable()

    def mark_trainable(self):
        for v in (self.gamma, self.beta):
            if v is not None:
                v.trainable = self.trainable and self.frozen is None

    # --- Forward -------------------------------------------------------------------

    def call(self, X, training=False, mask=None, update=True):
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
            if mask.ndim < X.ndim:
                kept = spec.kept_axes(X.ndim, self.axis)
                mask = keras.ops.expand_dims(mask, kept)
            mask = tf.cast(mask, tf.bool)
        if training:
            return self.train_forward(X, mask, update)
        return self.eval_forward(X, mask)

    def train_forward(self, X, mask, update):
        mean, var, n = self.batch_stats(X, mask)
        Y = self.normalize(X, *self.or_moving(mean, var, n), self.axis, training=True)
        if update:
            self.move(tf.stop_gradient(mean), tf.stop_gradient(var), n)
        return Y

    def eval_forward(self, X, mask):
        mean, var = self.moving_mean, self.moving_var
        if self.predicts_by_batch():
            mean, var = self.or_moving(*BatchNorm.batch_stats(self, X, mask))
        return self.normalize(X, mean, var, self.axis, training=False)

    def or_moving(self, mean, var, n):
        """These statistics, or the moving ones if fewer than two values gave them."""
        return stats.select(n > 1, (mean, var), (self.moving_mean, self.moving_var))

    def predicts_by_batch(self):
        return self.statistics == "batch" and not self.is_fixed()

    def is_fixed(self):
        """`trainable=False` of a batch norm means prediction, as in Keras's own."""
        return self.frozen == "all" or not self.trainable

    # --- The steps a variant overrides ---------------------------------------------

    def batch_stats(self, X, mask):
        """Where the statistics come from.  -> mean [C], var [C], values per channel."""
        if mask is not None:
            return stats.masked_stats(X, mask, self.axis)
        n = spec.values_per_channel(shape_of(X), self.axis)
        return *batch_stats(X, self.axis), n

    def normalize(self, X, mean, var, axis, training):
        return normalize(X, *self.operands(mean, var, training), self.eps, axis)

    def operands(self, mean, var, training):
        """What `normalize` is given: mean, var, gamma, beta."""
        mean, var = tf.convert_to_tensor(mean), tf.convert_to_tensor(var)
        gamma = tf.ones_like(mean) if self.gamma is None else self.gamma
        beta = tf.zeros_like(mean) if self.beta is None else self.beta
        return mean, var, tf.cast(gamma, mean.dtype), tf.cast(beta, mean.dtype)

    def move(self, mean, var, n):
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

    def get_config(self):
        to_file, arguments = keras.saving.serialize_keras_object, self.arguments()
        config = {name: to_file(value) for name, value in arguments.items()}
        return super().get_config() | config

    def arguments(self):
        """{name: value}: what the constructor was given, but for Keras's own."""
        names = "num_features", "num_dims", "eps", "momentum", "axis", "center", "scale"
        names += "correction", "statistics", "frozen"
        names += "gamma_initializer", "beta_initializer"
        names += "moving_mean_initializer", "moving_var_initializer"
        names += "gamma_regularizer", "beta_regularizer"
        names += "gamma_constraint", "beta_constraint"
        return {name: getattr(self, name) for name in names}

    @classmethod
    def from_config(cls, config):
        from_file = keras.saving.deserialize_keras_object
        return super().from_config({k: from_file(v) for k, v in config.items()})


def at_least_float32(dtype):
    """The dtype of the parameters: 16-bit inputs are normalized in float32."""
    return "float32" if tf.as_dtype(dtype).size < 4 else dtype


def _initializer(value):
    """A number stays one; of all else Keras makes its initializer."""
    return value if isinstance(value, numbers.Number) else keras.initializers.get(value)
