"""Batch normalization in TensorFlow: equations (1)-(6) of bn_from_scratch.spec."""

import keras
import tensorflow as tf

from bn_from_scratch import spec
from bn_from_scratch.spec import EPS, MOMENTUM

CHANNEL_AXIS = -1  # X is [N, C] or [N, H, W, C]


def promote(X):
    """X in float32 at least: 16-bit sums overflow and cancel."""
    return tf.cast(X, tf.float32) if X.dtype.size < 4 else X


def channel_mean(X):
    """Mean of each channel, kept as a broadcastable shape.  [N, *, C] -> [1, 1..., C].

    A long float32 sum is inexact; the mean of what it left over corrects it (Chan,
    Golub and LeVeque 1983).  That is 0 in exact arithmetic, so it has no gradient.
    """
    axes = spec.reduce_axes(X.ndim, CHANNEL_AXIS)
    mean = tf.reduce_mean(X, axis=axes, keepdims=True)
    left_over = tf.reduce_mean(X - mean, axis=axes, keepdims=True)
    return mean + tf.stop_gradient(left_over)


def batch_stats(X):
    """Mean and biased variance of each channel.  X [N, *, C] -> [C], [C]."""
    X = promote(X)
    mean = channel_mean(X)  # (1)
    var = channel_mean(tf.square(X - mean))  # (2)
    return tf.reshape(mean, [-1]), tf.reshape(var, [-1])


def normalize(X, mean, var, gamma, beta, eps):
    """Standardize X, then scale by gamma and shift by beta.  [N, *, C] -> same."""
    shape, dtype, X = spec.param_shape(X.ndim, CHANNEL_AXIS), X.dtype, promote(X)
    mean, var, gamma, beta = (
        tf.cast(tf.reshape(v, shape), X.dtype) for v in (mean, var, gamma, beta)
    )
    X_hat = (X - mean) / tf.sqrt(var + eps)  # (3)
    return tf.cast(gamma * X_hat + beta, dtype)  # (4)


def update_moving(moving_mean, moving_var, mean, var, momentum):
    """Move the moving averages one batch on.  Four [C] -> [C], [C]."""
    mean, var = tf.cast(mean, moving_mean.dtype), tf.cast(var, moving_var.dtype)
    moving_mean = (1 - momentum) * moving_mean + momentum * mean  # (5)
    moving_var = (1 - momentum) * moving_var + momentum * var  # (6)
    return moving_mean, moving_var


def batch_norm(
    X, gamma, beta, moving_mean, moving_var, *, training, eps=EPS, momentum=MOMENTUM
):
    """Batch-normalize X [N, *, C]; return Y and the new moving mean and variance.

    No argument is changed in place.  An empty batch leaves the averages alone.
    """
    if not training or 0 in X.shape:
        Y = normalize(X, moving_mean, moving_var, gamma, beta, eps)
        return Y, moving_mean, moving_var
    mean, var = batch_stats(X)
    Y = normalize(X, mean, var, gamma, beta, eps)
    mean, var = tf.stop_gradient(mean), tf.stop_gradient(var)
    return Y, *update_moving(moving_mean, moving_var, mean, var, momentum)


@keras.saving.register_keras_serializable("bn_from_scratch")
class BatchNorm(keras.Layer):
    """Batch normalization with learned scale and shift.  X [N, *, C] -> same.

    X has `num_dims` axes.  `layer(X, training=True)` chooses the mode.
    """

    def __init__(
        self, num_features, num_dims, eps=EPS, momentum=MOMENTUM, dtype=None, **kwargs
    ):
        super().__init__(dtype=dtype, autocast=False, **kwargs)
        spec.check_layer(num_features, num_dims, eps, momentum)
        self.num_features, self.num_dims = num_features, num_dims
        self.eps, self.momentum = eps, momentum

    def build(self, input_shape):
        shape, fixed = (self.num_features,), {"trainable": False}
        self.gamma = self.add_weight(shape, "ones", name="gamma")
        self.beta = self.add_weight(shape, "zeros", name="beta")
        self.moving_mean = self.add_weight(shape, "zeros", name="moving_mean", **fixed)
        self.moving_var = self.add_weight(shape, "ones", name="moving_var", **fixed)

    def call(self, X, training=False):
        settings = self.num_features, self.num_dims, training
        spec.check_input(X.shape, X.dtype, CHANNEL_AXIS, *settings)
        return self.train_forward(X) if training else self.eval_forward(X)

    def train_forward(self, X):
        state = self.gamma, self.beta, self.moving_mean, self.moving_var
        settings = {"eps": self.eps, "momentum": self.momentum}
        Y, moving_mean, moving_var = batch_norm(X, *state, training=True, **settings)
        if None in X.shape:  # a graph learns its batch size only when it runs
            n = tf.size(X) // self.num_features
            message = "training needs more than one value per channel"
            tf.debugging.assert_none_equal(n, 1, message=message)
            moving_mean = tf.where(n == 0, self.moving_mean, moving_mean)
            moving_var = tf.where(n == 0, self.moving_var, moving_var)
        self.moving_mean.assign(moving_mean)
        self.moving_var.assign(moving_var)
        return Y

    def eval_forward(self, X):
        state = self.gamma, self.beta, self.moving_mean, self.moving_var
        return batch_norm(X, *state, training=False, eps=self.eps)[0]

    def get_config(self):
        names = "num_features", "num_dims", "eps", "momentum"
        return super().get_config() | {name: getattr(self, name) for name in names}
