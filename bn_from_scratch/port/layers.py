"""A framework's own layer, or ours in it, with the settings of a `Norm`."""

from typing import Any

from bn_from_scratch import backends
from bn_from_scratch.port import words
from bn_from_scratch.port.content import Norm


def make(
    framework: str, norm: Norm, dtype: str, num_dims: int = 4, **named: Any
) -> Any:
    """The layer, without the state.  `named` gives it a name, where layers have one."""
    bn = backends.load(framework, dtype)
    named |= {"scale": "gamma" in norm.full(), "center": "beta" in norm.full()}
    if norm.scratch and norm.correction is not None:
        named["correction"] = norm.correction
    make = bn.BatchNorm if norm.scratch else bn.builtin
    eps, momentum = norm.numbers()
    layer = make(norm.size, num_dims, eps, momentum, dtype, **named)
    if framework == "tensorflow" and not norm.scratch:
        # 1 - 0.07 is 0.9299999999999999; a file of Keras says 0.93.
        layer.momentum = words.complement(momentum)
    return layer
