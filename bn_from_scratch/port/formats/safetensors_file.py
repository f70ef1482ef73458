"""safetensors: named arrays, in the names of any framework."""

from pathlib import Path

import safetensors
import safetensors.numpy

from bn_from_scratch import reading
from bn_from_scratch.port import names, settings
from bn_from_scratch.port.content import Content
from bn_from_scratch.port.formats import flax_msgpack, named


def read(path: Path, framework: str | None = None) -> Content:
    """`framework` overrides what the names say."""
    with reading.door("safetensors cannot read it"):
        with safetensors.safe_open(path, "numpy") as file:
            said = (file.metadata() or {}).get(settings.KEY)
            flat = {k: _array(file, k) for k in file.keys()}
    return settings.from_json(named.content(flat, framework), said)


def _array(file, name):
    try:
        return file.get_tensor(name)
    except (TypeError, AttributeError):  # of ml_dtypes, or of nobody
        dtype = file.get_slice(name).get_dtype()
        raise ValueError(f"NumPy has no {dtype}, the dtype of {name}") from None


def write(path: Path, content: Content) -> None:
    flax = content.framework == "jax"
    flat = flax_msgpack.to_flat(content) if flax else names.flatten(content)
    flat = {name: v.copy() for name, v in flat.items()}  # it writes a view's memory
    metadata = {"format": "np", settings.KEY: settings.to_json(content)}
    safetensors.numpy.save_file(flat, path, metadata)
