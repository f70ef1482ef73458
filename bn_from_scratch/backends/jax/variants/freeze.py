"""Batch norm that nothing changes: for fine-tuning, and for detection backbones."""

from dataclasses import field

from bn_from_scratch.backends.jax.layer import BatchNorm


class FrozenBatchNorm(BatchNorm):
    """The moving statistics always, in training too; gamma and beta are fixed."""

    variant = "freeze"

    frozen: str = field(default="all", init=False)
