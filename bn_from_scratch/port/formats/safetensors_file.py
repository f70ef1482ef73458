"""safetensors: named arrays, in the names of any framework.

Which one is told by the names: "params.bn1.scale" and "batch_stats.bn1.mean" are
Flax's; running_mean beside weight PyTorch's, beside gamma Gluon's; moving_mean and
moving_var beside gamma the project's own.  Names are separated by dots or slashes.
"""

from pathlib import Path

import safetensors
import safetensors.numpy

from bn_from_scratch import backends
from bn_from_scratch.port import names, settings, words
from bn_from_scratch.port.content import EXCHANGE, Content
from bn_from_scratch.port.formats import flax_msgpack


def read(path: Path, framework: str | None = None) -> Content:
    """`framework` overrides what the names say."""
    try:
        with safetensors.safe_open(path, "numpy") as file:
            said = (file.metadata() or {}).get(settings.KEY)
            flat = names.dotted({k: file.get_tensor(k) for k in file.keys()})
    except (safetensors.SafetensorError, TypeError) as error:  # TypeError: bfloat16
        raise ValueError(f"safetensors cannot read it: {error}") from None
    framework = framework or _recognized(flat)
    if framework == "jax":
        content = flax_msgpack.from_flat(flat)
    else:
        content = names.split(flat, framework)
    return settings.from_json(content, said)


def write(path: Path, content: Content) -> None:
    flax = content.framework == "jax"
    flat = flax_msgpack.to_flat(content) if flax else names.flatten(content)
    flat = {name: v.copy() for name, v in flat.items()}  # it writes a view's memory
    metadata = {"format": "np", settings.KEY: settings.to_json(content)}
    safetensors.numpy.save_file(flat, path, metadata)


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
    for framework in ("torch", "mxnet"):
        theirs = {*words.NAMES[framework][:2]}
        if beside & theirs:
            return framework
    known = ", ".join(backends.NAMES)
    raise ValueError(f"its names fit no framework, or several: give it, one of {known}")
