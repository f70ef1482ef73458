"""Layer norm (Ba, Kiros and Hinton 2016): equation (20) of bn_from_scratch.spec."""

import torch
from torch import Tensor, nn
from torch.fx import Proxy

from bn_from_scratch import checks, spec
from bn_from_scratch.backends.torch.batch_norm import (
    CHANNEL_AXIS,
    batch_stats,
    normalize,
    promote,
)
from bn_from_scratch.backends.torch.dtypes import AtLeastFloat32
from bn_from_scratch.backends.torch.layer import Dtype, at_least_float32
from bn_from_scratch.backends.torch.tracing import Leaf
from bn_from_scratch.spec import EPS, Axis


def layer_norm(
    X: Tensor,
    gamma: Tensor,
    beta: Tensor,
    eps: float = EPS,
    axis: Axis | None = None,
    feature_axis: Axis = CHANNEL_AXIS,
) -> Tensor:
    """Normalize each example over `axis`, by default all axes but the first.

    gamma and beta have the sizes of `feature_axis`.  [N, C, *] -> same.
    """
    dtype, X = X.dtype, promote(X)
    examples = 0 if axis is None else spec.reduce_axes(X.ndim, axis)
    mean, var = batch_stats(X, examples)  # (1) (2), of an example
    one, zero = torch.ones_like(var), torch.zeros_like(mean)
    X_hat = normalize(X, mean, var, one, zero, eps, examples)
    gamma, beta = (
        v.reshape(spec.param_shape(X.shape, feature_axis)) for v in (gamma, beta)
    )
    return (gamma * X_hat + beta).to(dtype)  # (20)


class LayerNorm(Leaf, AtLeastFloat32):
    """Layer normalization with learned scale and shift.  X [N, C, *] -> same.

    It knows no batch and no moving averages: training and prediction are the same.
    axis: the axes normalized over, by default all but the first.
    feature_axis: those of gamma and beta, whose sizes are `num_features`.

    >>> Y = bn.LayerNorm(num_features=3)(torch.rand(8, 3, 4, 4))
    >>> torch.allclose(Y.mean((1, 2, 3)), torch.zeros(8), atol=1e-5)
    True
    """

    num_features: int | tuple[int, ...]
    num_dims: int | None
    eps: float
    axis: Axis | None
    feature_axis: Axis
    gamma: nn.Parameter
    beta: nn.Parameter

    def __init__(
        self,
        num_features: int | tuple[int, ...],
        num_dims: int | None = None,
        eps: float = EPS,
        dtype: Dtype = None,
        *,
        axis: Axis | None = None,
        feature_axis: Axis = CHANNEL_AXIS,
    ) -> None:
        super().__init__()
        checks.check_layer_norm(num_features, num_dims, eps, axis, feature_axis)
        self.num_features, self.num_dims, self.eps = num_features, num_dims, eps
        self.axis, self.feature_axis = axis, feature_axis
        shape, dtype = checks.tuple_of(num_features), at_least_float32(dtype)
        self.gamma = nn.Parameter(torch.ones(shape, dtype=dtype))
        self.beta = nn.Parameter(torch.zeros(shape, dtype=dtype))

    def forward(self, X: Tensor) -> Tensor:
        checks.check_kind("X", X, (Tensor, Proxy), "a torch.Tensor")
        if isinstance(X, Proxy):
            return self.node_of(X)  # pyright: ignore
        sizes = self.num_features, self.num_dims
        checks.check_input(X.shape, X.dtype, self.feature_axis, *sizes, False)
        axes = self.axis, self.feature_axis
        return layer_norm(X, self.gamma, self.beta, self.eps, *axes)
