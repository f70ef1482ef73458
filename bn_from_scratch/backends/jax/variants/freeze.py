"""Batch norm that nothing changes: for fine-tuning, and for detection backbones."""

from dataclasses import field

from bn_from_scratch.backends.jax.layer import BatchNorm


class FrozenBatchNorm(BatchNorm):
    """The moving statistics always, in training too; gamma and beta are fixed.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> layer = bn.FrozenBatchNorm(1)
    >>> X = jnp.array([[1.0], [3.0]])
    >>> Y, _ = layer.init_with_output(jax.random.key(0), X, training=True)
    >>> print(Y.round(2))
    [[1.]
     [3.]]
    """

    variant = "freeze"

    frozen: str = field(default="all", init=False)
