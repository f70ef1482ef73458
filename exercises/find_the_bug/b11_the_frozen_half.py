"""The frozen part thaws.

"I fine-tune a network whose first part is frozen: layer.trainable = False, for the
norms too.  One call in training on 32 rows of new data, and the frozen norm's moving
mean, which was 0, is [0.28, 0.32, 0.32, 0.34]; its prediction for the old rows changed
by up to 1.15.  What else do I have to switch off?"

Checked by `bn check exercises/find_the_bug/b11_the_frozen_half.py`.
"""

import keras
import tensorflow as tf


class BatchNorm(keras.layers.Layer):
    """Batch normalization of X [N, C] (num_dims=2) or [N, H, W, C] (num_dims=4)."""

    def __init__(self, num_features, num_dims, eps=1e-5, momentum=0.1, **kwargs):
        super().__init__(**kwargs)
        self.num_features, self.num_dims = num_features, num_dims
        self.eps, self.momentum = eps, momentum
        C = (num_features,)
        self.gamma = self.add_weight(shape=C, initializer="ones")
        self.beta = self.add_weight(shape=C, initializer="zeros")
        self.moving_mean = self.add_weight(
            shape=C, initializer="zeros", trainable=False
        )
        self.moving_var = self.add_weight(shape=C, initializer="ones", trainable=False)

    def call(self, X, training=False):
        if len(X.shape) != self.num_dims or X.shape[-1] != self.num_features:
            raise ValueError(f"a layer for other inputs than {X.shape}")
        n = X.shape[:-1].num_elements()
        if training and n == 1:
            raise ValueError("training needs more than one value per channel")
        if training and n != 0:
            mean, var = self.learn(X)
        else:
            mean, var = self.moving_mean, self.moving_var
        X_hat = (X - mean) / tf.sqrt(var + self.eps)
        return self.gamma * X_hat + self.beta

    def learn(self, X):
        """The statistics of X [N, *, C]; the moving averages go one batch on."""
        mean, var = tf.nn.moments(X, list(range(len(X.shape) - 1)))
        m = self.momentum
        self.moving_mean.assign((1 - m) * self.moving_mean + m * mean)
        self.moving_var.assign((1 - m) * self.moving_var + m * var)
        return mean, var
