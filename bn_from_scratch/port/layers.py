"""A framework's own layer, or ours in it, with the settings of a `Norm`."""

from bn_from_scratch import backends
from bn_from_scratch.port import words


def make(framework, norm, dtype, num_dims=4, **named):
    """The layer, without the state.  `named` gives it a name, where layers have one."""
    bn = backends.load(framework, dtype)
    has = {"scale": "gamma" in norm.full(), "center": "beta" in norm.full()}
    make = bn.BatchNorm if norm.scratch else bn.builtin
    layer = make(norm.size, num_dims, norm.eps, norm.momentum, dtype, **has, **named)
    if framework == "tensorflow" and not norm.scratch:
        # 1 - 0.07 is 0.9299999999999999; a file of Keras says 0.93.
        layer.momentum = words.complement(norm.momentum)
    return layer
