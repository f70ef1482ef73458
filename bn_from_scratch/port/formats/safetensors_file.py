"""safetensors: named arrays, in the names of any framework."""

from pathlib import Path

import safetensors
import safetensors.numpy

from bn_from_scratch.port import names, settings
from bn_from_scratch.port.content import Content
from bn_from_scratch.port.formats import flax_msgpack, named


def read(path: Path, framework: str | None = None) -> Content:
    """`framework` overrides what the names say."""
    try:
        with safetensors.safe_open(path, "numpy") as file:
            said = (file.metadata() or {}).get(settings.KEY)
            flat = {k: file.get_tensor(k) for k in file.keys()}
    except (safetensors.SafetensorError, TypeError) as error:  # TypeError: bfloat16
        raise ValueError(f"safetensors cannot read it: {error}") from None
    return settings.from_json(named.content(flat, framework), said)


def write(path: Path, content: Content) -> None:
    flax = content.framework == "jax"
    flat = flax_msgpack.to_flat(content) if flax else names.flatten(content)
    flat = {name: v.copy() for name, v in flat.items()}  # it writes a view's memory
    metadata = {"format": "np", settings.KEY: settings.to_json(content)}
    safetensors.numpy.save_file(flat, path, metadata)
