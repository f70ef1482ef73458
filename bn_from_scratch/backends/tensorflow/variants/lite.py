"""Half a batch norm: only the mean, or only the variance (d2l's fourth exercise)."""

import tensorflow as tf
from tensorflow import Tensor

from bn_from_scratch.backends.tensorflow.batch_norm import normalize
from bn_from_scratch.backends.tensorflow.layer import BatchNorm
from bn_from_scratch.spec import Axis


class MeanOnlyBatchNorm(BatchNorm):
    """X minus its mean, scaled and shifted (Salimans and Kingma 2016).

    >>> import tensorflow as tf
    >>> layer = bn.MeanOnlyBatchNorm(1)
    >>> layer(tf.constant([[1.0], [5.0]]), training=True).numpy()
    array([[-2.],
           [ 2.]], dtype=float32)
    """

    variant = "mean_only"

    def normalize(
        self, X: Tensor, mean: Tensor, var: Tensor, axis: Axis, training: bool
    ) -> Tensor:
        mean, var, gamma, beta = self.operands(mean, var, training)
        return normalize(X, mean, tf.ones_like(var), gamma, beta, 0, axis)


class VarOnlyBatchNorm(BatchNorm):
    """X divided by its standard deviation, scaled and shifted; its mean remains.

    >>> import tensorflow as tf
    >>> layer = bn.VarOnlyBatchNorm(1)
    >>> layer(tf.constant([[2.0], [6.0]]), training=True).numpy().round(2)
    array([[1.],
           [3.]], dtype=float32)
    """

    variant = "var_only"

    def normalize(
        self, X: Tensor, mean: Tensor, var: Tensor, axis: Axis, training: bool
    ) -> Tensor:
        mean, var, gamma, beta = self.operands(mean, var, training)
        return normalize(X, tf.zeros_like(mean), var, gamma, beta, self.eps, axis)
