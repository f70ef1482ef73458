"""It used to run.

"This layer ran for years.  After the update to Keras 3 the first call, prediction or
training, ends in an AttributeError.  The layer is built and its weights are there.  I
would like to keep what it does: the averages move in training, and in training only."

Checked by `bn check exercises/find_the_bug/b10_it_used_to_run.py`.
"""

import keras
import tensorflow as tf


class BatchNorm(keras.layers.Layer):
    """Batch normalization of X [N, C] (num_dims=2) or [N, H, W, C] (num_dims=4)."""

    def __init__(self, num_features, num_dims, eps=1e-5, momentum=0.1, **kwargs):
        super().__init__(**kwargs)
        self.num_features, self.num_dims = num_features, num_dims
        self.eps, self.momentum = eps, momentum

    def build(self, input_shape):
        C = (self.num_features,)
        self.gamma = self.add_weight(shape=C, initializer="ones")
        self.beta = self.add_weight(shape=C, initializer="zeros")
        still = {"trainable": False}
        self.moving_mean = self.add_weight(shape=C, initializer="zeros", **still)
        self.moving_var = self.add_weight(shape=C, initializer="ones", **still)

    def call(self, X, training=False):
        if len(X.shape) != self.num_dims or X.shape[-1] != self.num_features:
            raise ValueError(f"a layer for other inputs than {X.shape}")
        n = X.shape[:-1].num_elements()
        training = training and self.trainable and n != 0
        if training and n == 1:
            raise ValueError("training needs more than one value per channel")
        mean, var = self.moving_mean.value, self.moving_var.value
        moved = mean, var
        if training:
            mean, var = tf.nn.moments(X, list(range(self.num_dims - 1)))
            moved = self.moved(mean, var)
        self.moving_mean.assign(moved[0])
        self.moving_var.assign(moved[1])
        return self.gamma * (X - mean) / tf.sqrt(var + self.eps) + self.beta

    def moved(self, mean, var):
        """The moving averages, one batch on."""
        m = self.momentum
        moving_mean = (1 - m) * self.moving_mean + m * mean
        return moving_mean, (1 - m) * self.moving_var + m * var
