"""Layer norm (Ba, Kiros and Hinton 2016): equation (20) of bn_from_scratch.spec."""

from mxnet import np
from mxnet.gluon import Parameter, nn
from mxnet.numpy import ndarray

from bn_from_scratch import checks, spec
from bn_from_scratch.backends.mxnet.batch_norm import (
    CHANNEL_AXIS,
    batch_stats,
    normalize,
    promote,
)
from bn_from_scratch.backends.mxnet.dtypes import check_array, like
from bn_from_scratch.backends.mxnet.layer import Dtype, at_least_float32
from bn_from_scratch.backends.mxnet.parameters import Wide
from bn_from_scratch.spec import EPS, Axis


def layer_norm(
    X: ndarray,
    gamma: ndarray,
    beta: ndarray,
    eps: float = EPS,
    axis: Axis | None = None,
    feature_axis: Axis = CHANNEL_AXIS,
) -> ndarray:
    """Normalize each example over `axis`, by default all axes but the first.

    gamma and beta have the sizes of `feature_axis`.  [N, C, *] -> same.
    """
    dtype, X = X.dtype, promote(X)
    examples = 0 if axis is None else spec.reduce_axes(X.ndim, axis)
    mean, var = batch_stats(X, examples)  # (1) (2), of an example
    one, zero = np.ones_like(var), np.zeros_like(mean)
    X_hat = normalize(X, mean, var, one, zero, eps, examples)
    gamma, beta = (
        like(X, v.reshape(spec.param_shape(X.shape, feature_axis)))
        for v in (gamma, beta)
    )
    return (gamma * X_hat + beta).astype(dtype)  # (20)


class LayerNorm(nn.Block):
    """Layer normalization with learned scale and shift.  X [N, C, *] -> same.

    It knows no batch and no moving averages: training and prediction are the same.
    axis: the axes normalized over, by default all but the first.
    feature_axis: those of gamma and beta, whose sizes are `num_features`.

    >>> layer = bn.LayerNorm(num_features=3)
    >>> layer.initialize()
    >>> Y = layer(np.random.uniform(size=(2, 3, 4, 4)))
    >>> [round(abs(v), 4) for v in Y.mean((1, 2, 3)).tolist()]
    [0.0, 0.0]
    """

    num_features: int | tuple[int, ...]
    num_dims: int | None
    eps: float
    axis: Axis | None
    feature_axis: Axis
    gamma: Parameter
    beta: Parameter

    def __init__(
        self,
        num_features: int | tuple[int, ...],
        num_dims: int | None = None,
        eps: float = EPS,
        dtype: Dtype = "float32",
        *,
        axis: Axis | None = None,
        feature_axis: Axis = CHANNEL_AXIS,
    ) -> None:
        super().__init__()
        checks.check_layer_norm(num_features, num_dims, eps, axis, feature_axis)
        self.num_features, self.num_dims, self.eps = num_features, num_dims, eps
        self.axis, self.feature_axis = axis, feature_axis
        shape, dtype = checks.tuple_of(num_features), at_least_float32(dtype)
        settings = {"shape": shape, "dtype": dtype}
        self.gamma = Wide(self.prefix + "gamma", init="ones", **settings)
        self.beta = Wide(self.prefix + "beta", init="zeros", **settings)
        self.params.update({p.name: p for p in (self.gamma, self.beta)})

    def cast(self, dtype: Dtype) -> None:
        super().cast(at_least_float32(dtype))

    def forward(self, X: ndarray) -> ndarray:
        check_array("X", X)
        sizes = self.num_features, self.num_dims
        checks.check_input(X.shape, X.dtype, self.feature_axis, *sizes, False)
        axes = self.axis, self.feature_axis
        gamma, beta = self.gamma.data(X.ctx), self.beta.data(X.ctx)
        return layer_norm(X, gamma, beta, self.eps, *axes)
