"""Named arrays, in the names of any framework: what safetensors and .npz hold.

Which one is told by the names: "params.bn1.scale" and "batch_stats.bn1.mean" are
Flax's; running_mean beside weight PyTorch's, beside gamma Gluon's; moving_variance
Keras's, moving_var the project's own.  Names are separated by dots or slashes.
"""

import numpy as np

from bn_from_scratch import backends
from bn_from_scratch.port import names, words
from bn_from_scratch.port.content import EXCHANGE, Content
from bn_from_scratch.port.formats import flax_msgpack


def content(flat: dict[str, np.ndarray], framework: str | None = None) -> Content:
    """`framework` overrides what the names say."""
    flat = names.dotted(flat)
    framework = framework or _recognized(flat)
    if framework == "jax":
        return flax_msgpack.from_flat(flat)
    return names.split(flat, framework)


def _recognized(flat):
    """The framework whose names these are; ValueError where there may be several."""
    if any(name.startswith("batch_stats.") for name in flat):
        return "jax"
    owns = {name.rpartition(".")[2] for name in flat}
    beside = {
        name.rpartition(".")[2]
        for name in flat
        if f"{name.rpartition('.')[0]}.running_mean".lstrip(".") in flat
    }
    if "moving_var" in owns:
        return EXCHANGE
    if "moving_variance" in owns:
        return "tensorflow"
    for framework in ("torch", "mxnet"):
        theirs = {*words.NAMES[framework][:2]}
        if beside & theirs:
            return framework
    known = ", ".join(backends.NAMES)
    raise ValueError(f"its names fit no framework, or several: give it, one of {known}")
