"""LeNet in Flax, with the norm layer passed in."""

from collections.abc import Callable

import jax.numpy as jnp
from flax import linen as nn

from bn_from_scratch import lenet
from bn_from_scratch.backends.jax.builtin import call
from bn_from_scratch.backends.jax.layer import BatchNorm


class LeNet(nn.Module):
    """LeNet for [N, 28, 28, 1] -> [N, 10] logits; `norm(num_features, num_dims)`."""

    norm: Callable | None = None
    seed: int = 0
    dtype: str = "float32"

    @nn.compact
    def __call__(self, X, training):
        X = self.conv("conv1", 6, X)
        X = self.bn("bn1", 6, X, training)
        X = nn.sigmoid(X)
        X = nn.avg_pool(X, (2, 2), strides=(2, 2))
        X = self.conv("conv2", 16, X)
        X = self.bn("bn2", 16, X, training)
        X = nn.sigmoid(X)
        X = nn.avg_pool(X, (2, 2), strides=(2, 2))
        X = X.reshape(X.shape[0], -1)
        X = self.dense("dense1", 120, X)
        X = self.bn("bn3", 120, X, training)
        X = nn.sigmoid(X)
        X = self.dense("dense2", 84, X)
        X = self.bn("bn4", 84, X, training)
        X = nn.sigmoid(X)
        return self.dense("dense3", lenet.CLASSES, X)

    def conv(self, name, channels, X):
        # Flax pads SAME unless told otherwise.
        settings = self.settings(name) | {"padding": "VALID"}
        return nn.Conv(channels, kernel_size=(5, 5), **settings)(X)

    def dense(self, name, units, X):
        return nn.Dense(units, **self.settings(name))(X)

    def bn(self, name, num_features, X, training):
        if self.norm is None:
            return X
        layer = self.norm(num_features, num_dims=X.ndim, dtype=self.dtype, name=name)
        return call(layer, X, training)

    def settings(self, name):
        w = lenet.initial_weights(self.seed, self.dtype)[f"{name}.weight"]
        w = jnp.asarray(lenet.to_channels_last(f"{name}.weight", w))
        kernel_init = lambda key, shape, dtype: w  # noqa: E731
        return {"kernel_init": kernel_init, "param_dtype": self.dtype, "name": name}


def BNLeNet(norm=BatchNorm, seed=0, dtype="float32"):
    """LeNet with batch normalization after each layer but the last."""
    return LeNet(norm, seed, dtype)
