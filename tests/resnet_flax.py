"""ResNets (He et al. 2016) in Flax, as users write them: layers made on the way."""

from functools import partial

import jax.numpy as jnp
from flax import linen as nn


class Block(nn.Module):
    """Two convolutions beside a shortcut.  [N, H, W, C] -> [N, H', W', channels]."""

    channels: int
    stride: int
    norm: object
    dtype: str

    @nn.compact
    def __call__(self, X, train):
        C, stride = self.channels, (self.stride, self.stride)
        conv = partial(nn.Conv, use_bias=False, param_dtype=self.dtype)
        norm = partial(self.norm, use_running_average=not train)
        Y = conv(C, (3, 3), stride)(X)
        Y = nn.relu(norm()(Y))
        Y = conv(C, (3, 3))(Y)
        Y = norm(scale_init=nn.initializers.zeros)(Y)
        if X.shape != Y.shape:
            X = norm(name="shortcut_norm")(conv(C, (1, 1), stride, name="shortcut")(X))
        return nn.relu(X + Y)


class ResNet(nn.Module):
    """[N, H, W, 3] -> [N, 10] logits; `stages`: the blocks of each.

    (2, 2, 2, 2) is ResNet-18, which has 20 batch norms.
    """

    stages: tuple[int, ...]
    width: int = 64
    dtype: str = "float32"

    @nn.compact
    def __call__(self, X, train=True):
        exact = {"use_fast_variance": False}
        exact["force_float32_reductions"] = self.dtype == "float32"
        norm = partial(nn.BatchNorm, momentum=0.9, param_dtype=self.dtype, **exact)
        conv = partial(nn.Conv, use_bias=False, param_dtype=self.dtype)
        X = conv(self.width, (7, 7), (2, 2), name="conv1")(X)
        X = nn.relu(norm(use_running_average=not train, name="bn1")(X))
        X = nn.max_pool(X, (3, 3), (2, 2), padding="SAME")
        for stage, blocks in enumerate(self.stages):
            for block in range(blocks):
                stride = 2 if stage and not block else 1
                name = f"layer{stage + 1}_{block}"
                args = self.width * 2**stage, stride, norm, self.dtype
                X = Block(*args, name=name)(X, train)
        X = jnp.mean(X, (1, 2))
        return nn.Dense(10, param_dtype=self.dtype)(X)
