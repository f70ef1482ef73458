"""safetensors: named arrays, in the names of any framework."""

from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from bn_from_scratch import reading
from bn_from_scratch.port import floats, names, settings
from bn_from_scratch.port.content import Content
from bn_from_scratch.port.formats import flax_msgpack, named

DTYPES: dict[str, Any] = {"BF16": floats.OPAQUE, "F16": "<f2", "F32": "<f4"}
DTYPES |= {"F64": "<f8", "C64": "<c8"}
DTYPES |= {"BOOL": "?", "I8": "i1", "I16": "<i2", "I32": "<i4", "I64": "<i8"}
DTYPES |= {"U8": "u1", "U16": "<u2", "U32": "<u4", "U64": "<u8"}


def read(path: Path, framework: str | None = None) -> Content:
    """`framework` overrides what the names say."""
    with reading.door("safetensors cannot read it"):
        with safetensors.safe_open(path, "numpy") as file:
            said = (file.metadata() or {}).get(settings.KEY)
            order = file.offset_keys()
        entries = dict(safetensors.deserialize(Path(path).read_bytes()))
        flat = {name: _array(name, **entries[name]) for name in order}
    return settings.from_json(named.content(flat, framework), said)


def _array(name, dtype, shape, data):
    if dtype not in DTYPES:
        raise ValueError(f"NumPy has no {dtype}, the dtype of {name}")
    return np.frombuffer(data, DTYPES[dtype]).reshape(shape)


def write(path: Path, content: Content) -> None:
    flax = content.framework == "jax"
    flat = flax_msgpack.to_flat(content) if flax else names.flatten(content)
    flat = {name: v.copy() for name, v in flat.items()}  # it writes a view's memory
    metadata = {"format": "np", settings.KEY: settings.to_json(content)}
    safetensors.numpy.save_file(flat, path, metadata)
