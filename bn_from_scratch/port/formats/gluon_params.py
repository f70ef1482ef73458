"""Gluon: `net.save_parameters("x.params")`, or the .params of `net.export("x")`."""

import math
import re
import struct
import zipfile
from pathlib import Path
from typing import Any

from bn_from_scratch import backends, reading
from bn_from_scratch.port import names
from bn_from_scratch.port.content import Content

FRAMEWORK = "mxnet"
EXPORTED = re.compile(  # "arg:batchnorm0_gamma"; the Symbol API says moving_mean
    r"(?:arg|aux):(?P<path>.*?)_"
    r"(?:(?:moving|running)_(?P<kind>mean|var)|(?P<own>gamma|beta|weight|bias))"
)

# The head of a file is LIST, 8 bytes and the number of arrays; that of an array its
# magic number, its kind (0: dense) and its number of axes.
LIST = struct.pack("<Q", 0x112)
DENSE = ([0xF993FAC9, 0], [0xF993FACA, 0])
LEAST, MOST_AXES = 12, 32  # bytes of an array at least; axes at most
ITEM_SIZES = {0: 4, 1: 8, 2: 2, 3: 1, 4: 4, 5: 1, 6: 8, 7: 1, 12: 2}  # by dtype


def read(path: Path) -> Content:
    backends.load(FRAMEWORK)
    import mxnet

    _check_claims(Path(path))
    try:
        loaded = mxnet.npx.load(str(path))
    except (mxnet.MXNetError, UnicodeDecodeError) as error:
        reason = str(error).strip().splitlines()[-1]
        raise ValueError(f"MXNet cannot read it: {reason}") from None
    if not isinstance(loaded, dict):
        raise ValueError("its arrays have no names: net.save_parameters(path)")
    entries = ((name, _dotted(name), v.asnumpy()) for name, v in loaded.items())
    return names.split(names.unique(entries), FRAMEWORK)


def write(path: Path, content: Content) -> None:
    import mxnet

    flat = names.flatten(content)
    arrays = {k: mxnet.np.array(v, dtype=v.dtype) for k, v in flat.items()}
    mxnet.npx.save(str(path), arrays)


def save_model(trainer: Any, path: Path) -> None:
    trainer.model.save_parameters(str(path))


def _check_claims(path):
    """Raise ValueError where more arrays or names are claimed than the file can hold.

    MXNet makes room for as many as a file claims before it looks for them.
    """
    blob = path.read_bytes()
    if zipfile.is_zipfile(path):  # which MXNet reads too
        reading.check_zip(path)
    if not blob.startswith(LIST):
        return
    arrays, place = *struct.unpack_from("<Q", blob, 16), 24
    if arrays * LEAST > len(blob):
        raise ValueError(f"it claims {arrays:,} arrays; it has {len(blob):,} bytes")
    for _ in range(arrays):
        *kind, axes = struct.unpack_from("<Iii", blob, place)
        if kind not in DENSE or not 0 <= axes <= MOST_AXES:
            return  # MXNet knows it, or says what is wrong
        if kind == DENSE[0] and not axes:  # no array at all
            place += LEAST
            continue
        *shape, _, _, dtype = struct.unpack_from(f"<{axes}qiii", blob, place + 12)
        place += 12 + 8 * axes + 12 + math.prod(shape) * ITEM_SIZES.get(dtype, 8)
    (names,) = struct.unpack_from("<Q", blob, place)
    if names * 8 > len(blob):
        raise ValueError(f"it claims {names:,} names; it has {len(blob):,} bytes")


def _dotted(name):
    """The name in `save_parameters`'s style: "batchnorm0.gamma"."""
    if not (found := EXPORTED.fullmatch(name)):
        return name
    own = f"running_{found['kind']}" if found["kind"] else found["own"]
    return f"{found['path']}.{own}"
