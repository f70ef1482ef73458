"""The norm layers of every backend, by name."""

from functools import partial
from types import ModuleType
from typing import Any

NORMS = ("scratch", "builtin", "fused", "none")


def norm_layer(bn: ModuleType, norm: str, accumulate: int = 1) -> Any:
    """The factory of a norm by name: (num_features, num_dims) -> layer.  "none": None.

    Ours updates its moving averages once in so many micro-batches.
    """
    scratch = bn.BatchNorm
    if accumulate > 1:
        scratch = partial(bn.AccumBatchNorm, steps=accumulate)
    layers = {"scratch": scratch, "builtin": bn.builtin}
    return (layers | {"fused": bn.FusedBatchNorm, "none": None})[norm]
