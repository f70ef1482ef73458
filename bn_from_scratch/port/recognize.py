"""Which format a file is of: told by its first bytes, whatever its name."""

import re
import struct
import zipfile
from pathlib import Path

HEAD = 4096  # bytes that are looked at
HDF5 = b"\x89HDF\r\n\x1a\n"
LEGACY_TORCH = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19"  # its magic number, pickled
GLUON = struct.pack("<Q", 0x112)  # its magic number
MSGPACK = re.compile(rb"(?:[\x81-\x8f]|\xde..|\xdf....)[\xa0-\xbf\xd9\xda]", re.DOTALL)
TABLE = b"W\xfb\x80\x8b$uG\xdb"  # how a table of LevelDB ends
BLOCKS = [0, 512, 1024, 2048]  # where HDF5 may begin, after what a user put there

FOREIGN = {  # how a file begins that is none: what it is, and what to do
    b"version https://git-lfs": "it is a pointer of Git LFS: fetch the file itself",
    b"<!doctype html": "it is a web page: download the file itself",
    b"<html": "it is a web page: download the file itself",
    b"\x1f\x8b": "it is packed by gzip: unpack it first",
}


def module(path: Path) -> str | None:
    """The module in `formats/` that reads the file; None where nothing tells.

    ValueError, with what to do, for a file that is known and holds no plain weights.
    """
    with open(path, "rb") as file:
        head = file.read(HEAD)
        size = file.seek(0, 2)
        file.seek(max(0, size - len(TABLE)))
        tail = file.read()
    if any(head.startswith(HDF5, block) for block in BLOCKS):
        return "keras_file"
    if head.startswith(b"PK\x03\x04"):
        return _zipped(path)
    if head.startswith(LEGACY_TORCH):
        return "torch_pt"
    if head.startswith(GLUON):
        return "gluon_params"
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= size - 8:
        return "safetensors_file"
    if MSGPACK.match(head):
        return "flax_msgpack"
    for start, reason in FOREIGN.items():
        if head[: len(start)].lower() == start:
            raise ValueError(reason)
    if head.lstrip().startswith(b"{") and b'"weight_map"' in head:
        raise ValueError("it is the index of a model in several files: carry each")
    if tail == TABLE:
        raise ValueError(
            "it is a checkpoint of TensorFlow: load it into the model, "
            'then model.save("x.keras")'
        )
    if head[257:262] == b"ustar":
        raise ValueError("it is a tar archive: unpack it first")
    return None


def _zipped(path):
    """Keras, PyTorch and NumPy write zips: told by what is in them."""
    try:
        with zipfile.ZipFile(path) as file:
            names = file.namelist()
    except (zipfile.BadZipFile, OSError, ValueError):
        return None
    inner = {name.partition("/")[2] for name in names}
    if "constants.pkl" in inner and any(name.startswith("code/") for name in inner):
        raise ValueError(
            "it is a TorchScript archive, a program with its weights: "
            "torch.save(torch.jit.load(path).state_dict(), new_path), then carry that"
        )
    if inner & {"archive_format", "serialized_exported_program.json"} or (
        "serialized_exported_program.json" in names
    ):
        raise ValueError(
            "it is a program of torch.export with its weights: "
            "torch.save(torch.export.load(path).state_dict, new_path), then carry that"
        )
    if "data.pkl" in inner:
        return "torch_pt"
    if {"config.json", "model.weights.h5"} & {*names}:
        return "keras_file"
    if names and all(name.endswith(".npy") for name in names):
        return "npz_file"
    return None
