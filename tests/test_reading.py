"""Files that claim more than they hold, and what else a reader stumbles over.

Each is small, or takes no room on the disk; what is refused is refused before memory is
taken for it.
"""

import io
import json
import os
import resource
import struct
import sys
import zipfile

import numpy as np
import pytest
from conftest import load_or_skip

from bn_from_scratch import reading, training
from bn_from_scratch.checker import sources
from bn_from_scratch.diagnosis import recording
from bn_from_scratch.port import files

MB = 2**20
LIMIT = (
    "at most 768 MB are read, and the environment variable BN_MAX_MEGABYTES raises that"
)


def refusal(read, path):
    """What is said of a file, if that took less than 100 MB."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError) as raised:
        read(path)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert (after - before) / (1 if sys.platform == "darwin" else 2**10) * MB < 100 * MB
    return str(raised.value)


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("a.safetensors", files.read),
        ("a.npz", recording.load),
        ("a.safetensors", training.load_weights),
        ("a.ipynb", sources.cells),
    ],
)
def test_a_sparse_file_is_not_read_whole(name, read, tmp_path):
    path = tmp_path / name
    with open(path, "wb") as file:
        file.truncate(3 * 2**30)
    message = refusal(read, path)
    assert message == f"{path} has 3,072 MB; {LIMIT}"


@pytest.fixture(scope="module")
def zeros():
    """A GB of zeros in a zip of 1 MB, as the one member of that name."""

    def pack(path, member, start=b""):
        with (
            zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file,
            file.open(member, "w", force_zip64=True) as out,
        ):
            out.write(start)
            for _ in range(1024):
                out.write(bytes(MB))

    return pack


def test_a_bomb_is_not_unpacked(zeros, tmp_path):
    path = tmp_path / "a.npz"
    head = io.BytesIO()
    facts = {"descr": "<f4", "fortran_order": False, "shape": (2**28,)}
    np.lib.format.write_array_header_1_0(head, facts)
    zeros(path, "bn.running_mean.npy", head.getvalue())
    message = f"{path}, unpacked, has 1,025 MB; {LIMIT}"
    assert refusal(files.read, path) == message
    assert refusal(recording.load, path) == message


def test_the_limit_is_raised_by_the_variable(monkeypatch, tmp_path):
    path = tmp_path / "a.npz"
    X = np.zeros((4, 3))
    np.savez(path, X=X, bytes=np.zeros(2 * MB, np.uint8))
    monkeypatch.setenv(reading.VARIABLE, "1")
    with pytest.raises(reading.TooLarge, match=r"has 3 MB; at most 1 MB are read"):
        recording.load(path)
    monkeypatch.setenv(reading.VARIABLE, "4")
    with pytest.raises(ValueError, match="is no record"):
        recording.load(path)
    monkeypatch.setenv(reading.VARIABLE, "much")
    message = "^BN_MAX_MEGABYTES must be a whole number of MB; got 'much'$"
    with pytest.raises(ValueError, match=message):
        reading.limit()


def npz_of(path, header, version=(1, 0)):
    text = f"{header}\n".encode()
    head = b"\x93NUMPY" + bytes(version) + struct.pack("<H", len(text)) + text
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("X.npy", head + bytes(32))


def test_a_header_that_claims_too_many_values(tmp_path):
    path = tmp_path / "a.npz"
    facts = {"descr": "<f8", "fortran_order": False, "shape": (2**40,)}
    npz_of(path, facts)
    start = f"{path} is not a whole .npz file: "
    claim = "X.npy claims 1,099,511,627,776 values; it has 110 bytes"
    assert refusal(recording.load, path) == start + claim


@pytest.mark.parametrize("flag", [0x01, 0x20, 0x40])
def test_flags_of_a_zip(flag, tmp_path):
    """Encrypted, patched, strongly encrypted: `zipfile` raises errors of two kinds."""
    path = tmp_path / "a.npz"
    np.savez(path, X=np.ones((4, 3)))
    blob = bytearray(path.read_bytes())
    for mark, place in ((b"PK\x01\x02", 8), (b"PK\x03\x04", 6)):
        at = blob.index(mark) + place
        blob[at : at + 2] = struct.pack("<H", flag)
    path.write_bytes(blob)
    message = refusal(recording.load, path)
    assert message.startswith(f"{path} is not a whole .npz file: ")


def test_a_tensor_expanded_from_one_value(tmp_path):
    load_or_skip("torch")
    import torch

    path = tmp_path / "a.pt"
    names = ("weight", "bias", "running_mean", "running_var")
    one = torch.ones(1)
    torch.save({f"bn.{name}": one.expand(2 * 10**9) for name in names}, path)
    message = f"{path}, unpacked, has 30,518 MB; {LIMIT}"
    assert refusal(files.read, path) == message


def safetensors_of(path, dtype, bits, count=8, metadata=None):
    size = count * bits // 8
    names = ("gamma", "beta", "moving_mean", "moving_var")
    head = {
        f"bn.{name}": {
            "dtype": dtype,
            "shape": [count],
            "data_offsets": [i * size, (i + 1) * size],
        }
        for i, name in enumerate(names)
    }
    head |= {"__metadata__": metadata} if metadata else {}
    text = json.dumps(head).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(4 * size))


@pytest.mark.parametrize("dtype", ["F8_E4M3", "F8_E5M2"])
def test_dtypes_that_numpy_lacks(dtype, tmp_path):
    path = tmp_path / "a.safetensors"
    safetensors_of(path, dtype, bits=8)
    for read, start in (
        (files.read, "cannot be carried: safetensors cannot read it"),
        (training.load_weights, "is not a whole safetensors file"),
    ):
        message = refusal(read, path)
        assert message.startswith(f"{path} {start}: NumPy has no {dtype}")


DEEP = "[" * 10**5


def test_what_is_nested_too_deeply(tmp_path):
    path = tmp_path / "a.safetensors"
    safetensors_of(path, "F32", 32, metadata={"bn_from_scratch": DEEP})
    assert refusal(files.read, path).startswith(f"{path} cannot be carried: ")
    path = tmp_path / "a.ipynb"
    path.write_text(DEEP)
    assert refusal(sources.cells, path) == "a.ipynb is not a notebook"
    pytest.importorskip("h5py")
    path = tmp_path / "a.keras"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("config.json", DEEP)
        file.writestr("model.weights.h5", b"")
    message = "its config.json cannot be read: it is nested too deeply"
    assert refusal(files.read, path) == f"{path} cannot be carried: {message}"


@pytest.mark.parametrize("key", ["eps", "momentum", "batches"])
def test_numbers_beyond_every_float(key, tmp_path):
    path = tmp_path / "a.safetensors"
    said = {"bn_from_scratch": f'{{"bn": {{"{key}": 1e400}}}}'}
    safetensors_of(path, "F32", 32, metadata=said)
    assert refusal(files.read, path).startswith(f"{path} cannot be carried: ")


def test_extension_types_of_msgpack(tmp_path):
    load_or_skip("jax")
    import msgpack

    path = tmp_path / "a.msgpack"
    ext = msgpack.ExtType(77, b"?")
    tree = {
        "params": {"bn": {"scale": ext}},
        "batch_stats": {"bn": {"mean": ext, "var": ext}},
    }
    path.write_bytes(msgpack.packb(tree))
    assert refusal(files.read, path).startswith(f"{path} cannot be carried: ")


def test_counts_of_gluon(tmp_path):
    load_or_skip("mxnet")
    import mxnet

    path = tmp_path / "a.params"
    mxnet.npx.save(str(path), {"bn.gamma": mxnet.np.ones(3)})
    whole = path.read_bytes()
    for place, what in ((16, "arrays"), (whole.rindex(b"\x01" + bytes(7)), "names")):
        claim = struct.pack("<Q", 2**40)
        path.write_bytes(whole[:place] + claim + whole[place + 8 :])
        message = f"it claims 1,099,511,627,776 {what}; it has {len(whole)} bytes"
        assert refusal(files.read, path) == f"{path} cannot be carried: {message}"


def test_a_heap_of_hdf5_that_would_be_searched_for_ever(tmp_path):
    pytest.importorskip("h5py")
    path = tmp_path / "a.weights.h5"
    heap = b"GCOL\x01\0\0\0" + struct.pack("<Q", 4096) + bytes(4080)
    path.write_bytes(b"\x89HDF\r\n\x1a\n" + heap)
    message = "HDF5 cannot read it: a heap of strings is broken"
    assert refusal(files.read, path) == f"{path} cannot be carried: {message}"


@pytest.mark.parametrize("read", [files.read, training.load_weights])
def test_a_folder_or_a_pipe_for_a_file(read, tmp_path):
    (tmp_path / "a.pt").mkdir()
    os.mkfifo(tmp_path / "b.pt")
    for name, what in (("a.pt", "is a folder"), ("b.pt", "is a device, or a pipe")):
        with pytest.raises(OSError) as raised:
            read(tmp_path / name)
        assert str(raised.value) == f"a file is wanted; {tmp_path / name} {what}"


def test_links_that_make_a_tree_without_end(tmp_path):
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "a.weights.h5"
    with h5py.File(path, "w") as file:  # 10 to the power of 30 places
        inner = file.create_group("g")
        for i in range(30):
            group = file.create_group(f"g{i}")
            for key in range(10):
                group[f"{key}"] = inner
            inner = group
    message = refusal(files.read, path)
    assert message.startswith(f"{path} cannot be carried: /g")
    assert message.endswith(" has two places in the file")
    with h5py.File(path, "w") as file:
        values = file.create_dataset("v", data=np.zeros(MB, np.uint8))
        for i in range(1000):
            file[f"layers/bn{i}/vars/0"] = values
    message = refusal(files.read, path)
    assert message.endswith(" has two places in the file")


@pytest.mark.parametrize("shape", [(0, 4), (4, 0)])
def test_a_record_of_nothing(shape, tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, X=np.zeros(shape), Y=np.zeros(shape))
    message = f"X must have values; step1.X has shape {shape}"
    assert refusal(recording.load, path) == (
        f"{path} is no record of a batch norm: {message}"
    )
