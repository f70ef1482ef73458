"""Half a batch norm: only the mean, or only the variance (d2l's fourth exercise)."""

import torch
from torch import Tensor

from bn_from_scratch.backends.torch.batch_norm import normalize
from bn_from_scratch.backends.torch.layer import BatchNorm
from bn_from_scratch.spec import Axis


class MeanOnlyBatchNorm(BatchNorm):
    """X minus its mean, scaled and shifted (Salimans and Kingma 2016).

    >>> bn.MeanOnlyBatchNorm(num_features=1)(torch.tensor([[1.0], [5.0]])).tolist()
    [[-2.0], [2.0]]
    """

    variant = "mean_only"

    def normalize(
        self, X: Tensor, mean: Tensor, var: Tensor, axis: Axis, training: bool
    ) -> Tensor:
        mean, var, gamma, beta = self.operands(mean, var, training)
        return normalize(X, mean, torch.ones_like(var), gamma, beta, 0, axis)


class VarOnlyBatchNorm(BatchNorm):
    """X divided by its standard deviation, scaled and shifted; its mean remains.

    >>> Y = bn.VarOnlyBatchNorm(num_features=1)(torch.tensor([[1.0], [5.0]]))
    >>> Y.round(decimals=3).tolist()
    [[0.5], [2.5]]
    """

    variant = "var_only"

    def normalize(
        self, X: Tensor, mean: Tensor, var: Tensor, axis: Axis, training: bool
    ) -> Tensor:
        mean, var, gamma, beta = self.operands(mean, var, training)
        return normalize(X, torch.zeros_like(mean), var, gamma, beta, self.eps, axis)
