"""LeNet in Flax, with the norm layer passed in."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from bn_from_scratch import lenet
from bn_from_scratch.backends.jax.builtin import call
from bn_from_scratch.backends.jax.layer import BatchNorm
from bn_from_scratch.backends.jax.signatures import sign


@sign
class LeNet(nn.Module):
    """LeNet for [N, 28, 28, 1] -> [N, 10] logits; `norm(num_features, num_dims)`.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> model, X = bn.LeNet(), jnp.zeros([2, 28, 28, 1])
    >>> logits, _ = model.init_with_output(jax.random.key(0), X, training=False)
    >>> logits.shape
    (2, 10)
    """

    norm: Callable[..., nn.Module] | None = None
    seed: int = 0
    dtype: str = "float32"

    @nn.compact
    def __call__(self, X: Array, training: bool) -> Array:
        X = self._conv("conv1", 6, X)
        X = self._bn("bn1", 6, X, training)
        X = nn.sigmoid(X)
        X = nn.avg_pool(X, (2, 2), strides=(2, 2))
        X = self._conv("conv2", 16, X)
        X = self._bn("bn2", 16, X, training)
        X = nn.sigmoid(X)
        X = nn.avg_pool(X, (2, 2), strides=(2, 2))
        X = X.reshape(X.shape[0], -1)
        X = self._dense("dense1", 120, X)
        X = self._bn("bn3", 120, X, training)
        X = nn.sigmoid(X)
        X = self._dense("dense2", 84, X)
        X = self._bn("bn4", 84, X, training)
        X = nn.sigmoid(X)
        return self._dense("dense3", lenet.CLASSES, X)

    def _conv(self, name: str, channels: int, X: Array) -> Array:
        # Flax pads SAME unless told otherwise.
        settings: dict[str, Any] = self._settings(name) | {"padding": "VALID"}
        return nn.Conv(channels, kernel_size=(5, 5), **settings)(X)

    def _dense(self, name: str, units: int, X: Array) -> Array:
        return nn.Dense(units, **self._settings(name))(X)

    def _bn(self, name: str, num_features: int, X: Array, training: bool) -> Array:
        if self.norm is None:
            return X
        layer = self.norm(num_features, num_dims=X.ndim, dtype=self.dtype, name=name)
        return call(layer, X, training)

    def _settings(self, name: str) -> dict[str, Any]:
        w = lenet.initial_weights(self.seed, self.dtype)[f"{name}.weight"]
        w = jnp.asarray(lenet.to_channels_last(f"{name}.weight", w))
        kernel_init = lambda key, shape, dtype: w  # noqa: E731
        return {"kernel_init": kernel_init, "param_dtype": self.dtype, "name": name}


def BNLeNet(
    norm: Callable[..., nn.Module] = BatchNorm, seed: int = 0, dtype: str = "float32"
) -> LeNet:
    """LeNet with batch normalization after each layer but the last.

    >>> import jax.numpy as jnp
    >>> list(bn.batch_norms(bn.BNLeNet(), jnp.zeros([2, 28, 28, 1])))
    ['bn1', 'bn2', 'bn3', 'bn4']
    """
    return LeNet(norm, seed, dtype)
