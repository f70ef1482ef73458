"""Half a batch norm: only the mean, or only the variance (d2l's fourth exercise)."""

from mxnet import np
from mxnet.numpy import ndarray

from bn_from_scratch.backends.mxnet.batch_norm import normalize
from bn_from_scratch.backends.mxnet.layer import BatchNorm
from bn_from_scratch.spec import Axis


class MeanOnlyBatchNorm(BatchNorm):
    """X minus its mean, scaled and shifted (Salimans and Kingma 2016).

    >>> from mxnet import autograd, np
    >>> layer = bn.MeanOnlyBatchNorm(num_features=1)
    >>> layer.initialize()
    >>> with autograd.record():
    ...     layer(np.array([[1.0], [5.0]])).tolist()
    [[-2.0], [2.0]]
    """

    variant = "mean_only"

    def normalize(
        self, X: ndarray, mean: ndarray, var: ndarray, axis: Axis, training: bool
    ) -> ndarray:
        mean, var, gamma, beta = self.operands(mean, var, training)
        return normalize(X, mean, np.ones_like(var), gamma, beta, 0, axis)


class VarOnlyBatchNorm(BatchNorm):
    """X divided by its standard deviation, scaled and shifted; its mean remains.

    >>> from mxnet import autograd, np
    >>> layer = bn.VarOnlyBatchNorm(num_features=1)
    >>> layer.initialize()
    >>> with autograd.record():
    ...     [round(v, 3) for v, in layer(np.array([[1.0], [5.0]])).tolist()]
    [0.5, 2.5]
    """

    variant = "var_only"

    def normalize(
        self, X: ndarray, mean: ndarray, var: ndarray, axis: Axis, training: bool
    ) -> ndarray:
        mean, var, gamma, beta = self.operands(mean, var, training)
        return normalize(X, np.zeros_like(mean), var, gamma, beta, self.eps, axis)
