"""The same work through several backends, and how far their answers lie apart.

`layer`: one layer against the spec.  `precision`: float32 against float64, at large
means.  `training`: a network trained in each from the same weights on the same batches.
"""

NORMS = ("scratch", "builtin", "fused", "none")


def norm_layer(bn, norm):
    """The factory of a norm by name: (num_features, num_dims) -> layer."""
    layers = {"scratch": bn.BatchNorm, "builtin": bn.builtin}
    return (layers | {"fused": bn.FusedBatchNorm, "none": None})[norm]
