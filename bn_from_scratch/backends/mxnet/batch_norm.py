"""Batch normalization in MXNet: equations (1)-(6) of bn_from_scratch.spec."""

from mxnet import autograd, np
from mxnet.gluon import nn

from bn_from_scratch import spec
from bn_from_scratch.spec import EPS, MOMENTUM

CHANNEL_AXIS = 1  # X is [N, C] or [N, C, H, W]


def promote(X):
    """X in float32 at least: 16-bit sums overflow and cancel."""
    return X.astype("float32") if X.dtype.itemsize < 4 else X


def channel_mean(X):
    """Mean of each channel, kept as a broadcastable shape.  [N, C, *] -> [1, C, 1...].

    A long float32 sum is inexact; the mean of what it left over corrects it (Chan,
    Golub and LeVeque 1983).  That is 0 in exact arithmetic, so it has no gradient.
    """
    axes = spec.reduce_axes(X.ndim, CHANNEL_AXIS)
    mean = np.mean(X, axis=axes, keepdims=True)
    left_over = np.mean(X - mean, axis=axes, keepdims=True)
    return mean + left_over.detach()


def batch_stats(X):
    """Mean and biased variance of each channel.  X [N, C, *] -> [C], [C]."""
    X = promote(X)
    mean = channel_mean(X)  # (1)
    var = channel_mean(np.square(X - mean))  # (2)
    return mean.reshape(-1), var.reshape(-1)


def normalize(X, mean, var, gamma, beta, eps):
    """Standardize X, then scale by gamma and shift by beta.  [N, C, *] -> same."""
    shape, dtype, X = spec.param_shape(X.ndim, CHANNEL_AXIS), X.dtype, promote(X)
    mean, var, gamma, beta = (
        v.reshape(shape).astype(X.dtype) for v in (mean, var, gamma, beta)
    )
    X_hat = (X - mean) / np.sqrt(var + eps)  # (3)
    return (gamma * X_hat + beta).astype(dtype)  # (4)


def update_moving(moving_mean, moving_var, mean, var, momentum):
    """Move the moving averages one batch on.  Four [C] -> [C], [C]."""
    mean, var = mean.astype(moving_mean.dtype), var.astype(moving_var.dtype)
    moving_mean = (1 - momentum) * moving_mean + momentum * mean  # (5)
    moving_var = (1 - momentum) * moving_var + momentum * var  # (6)
    return moving_mean, moving_var


def batch_norm(
    X, gamma, beta, moving_mean, moving_var, *, training, eps=EPS, momentum=MOMENTUM
):
    """Batch-normalize X [N, C, *]; return Y and the new moving mean and variance.

    No argument is changed in place.  An empty batch leaves the averages alone.
    """
    if not training or 0 in X.shape:
        Y = normalize(X, moving_mean, moving_var, gamma, beta, eps)
        return Y, moving_mean, moving_var
    mean, var = batch_stats(X)
    Y = normalize(X, mean, var, gamma, beta, eps)
    mean, var = mean.detach(), var.detach()
    return Y, *update_moving(moving_mean, moving_var, mean, var, momentum)


class BatchNorm(nn.Block):
    """Batch normalization with learned scale and shift.  X [N, C, *] -> same.

    X has `num_dims` axes.  `autograd.record()` and its `train_mode` choose the mode.
    """

    def __init__(
        self, num_features, num_dims, eps=EPS, momentum=MOMENTUM, dtype="float32"
    ):
        super().__init__()
        spec.check_layer(num_features, num_dims, eps, momentum)
        self.num_features, self.num_dims = num_features, num_dims
        self.eps, self.momentum = eps, momentum
        settings = {"shape": (num_features,), "dtype": dtype}
        self.gamma = self.params.get("gamma", init="ones", **settings)
        self.beta = self.params.get("beta", init="zeros", **settings)
        settings |= {"grad_req": "null", "differentiable": False}
        self.moving_mean = self.params.get("moving_mean", init="zeros", **settings)
        self.moving_var = self.params.get("moving_var", init="ones", **settings)

    def forward(self, X):
        training = autograd.is_training()
        settings = self.num_features, self.num_dims, training
        spec.check_input(X.shape, X.dtype, CHANNEL_AXIS, *settings)
        return self.train_forward(X) if training else self.eval_forward(X)

    def train_forward(self, X):
        params = self.gamma, self.beta, self.moving_mean, self.moving_var
        state = (p.data(X.ctx) for p in params)
        settings = {"eps": self.eps, "momentum": self.momentum}
        Y, moving_mean, moving_var = batch_norm(X, *state, training=True, **settings)
        self.moving_mean.data(X.ctx)[:] = moving_mean
        self.moving_var.data(X.ctx)[:] = moving_var
        return Y

    def eval_forward(self, X):
        params = self.gamma, self.beta, self.moving_mean, self.moving_var
        state = (p.data(X.ctx) for p in params)
        return batch_norm(X, *state, training=False, eps=self.eps)[0]
