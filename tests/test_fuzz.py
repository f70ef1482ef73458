"""Damaged files of every format: read, or refused in one sentence that names the file.

The damage is drawn from a seed.  Whatever is wrong with a file, no other error comes
out of its reader than a ValueError, and nothing is written to the terminal.
"""

import json

import numpy as np
import pytest
from conftest import load_or_skip

from bn_from_scratch import training
from bn_from_scratch.checker import sources
from bn_from_scratch.diagnosis import recording
from bn_from_scratch.port import files
from bn_from_scratch.port.content import OURS, Content, Norm

MANY, FEW = 250, 20
HUGE = [2**31 - 1, 2**32 - 1, 2**40, 2**62, 2**64 - 1]
BYTES = [0, 1, 0x7F, 0x80, 0xFF]


def damaged(blob, rng):
    """A copy with one or several faults, of which each kind is as likely."""
    blob = bytearray(blob)
    for _ in range(rng.integers(1, 4)):
        place, length = rng.integers(len(blob)), int(rng.integers(1, 40))
        part = blob[place : place + length]
        kind = rng.integers(8)
        if kind == 0:
            blob[place] ^= 1 << rng.integers(8)
        elif kind == 1:
            blob[place] = rng.choice(BYTES)
        elif kind == 2:
            del blob[place : place + length]
        elif kind == 3:
            blob[place:place] = part
        elif kind == 4:
            blob[place : place + length] = rng.bytes(length)
        elif kind == 5:
            blob = blob[: place + 1]
        elif kind == 6:
            blob[place : place + length] = bytes(length)
        else:
            order = ("little", "big")[rng.integers(2)]
            number = HUGE[rng.integers(len(HUGE))]
            blob[place : place + 8] = number.to_bytes(8, order)
    return bytes(blob)


def _content(framework):
    rng = np.random.default_rng(1)
    norms = {}
    for path in ("block.bn1", "bn2"):
        state = {name: rng.uniform(0.5, 2, 3).astype("float32") for name in OURS}
        norms[path] = Norm(state, {}, False, 1e-3, 0.1)
    return Content(framework, norms)


def _model(framework):
    return lambda path: files.write(path, _content(framework))


def _legacy(path):
    import torch

    files.write(path, _content("torch"))
    state = torch.load(path, weights_only=True)
    torch.save(state, path, _use_new_zipfile_serialization=False)


def _record(path):
    X = np.random.default_rng(2).normal(size=(4, 3))
    recording.save({"X": X, "Y": X, "eps": np.array(1e-5)}, path)


def _notebook(path):
    cells = [{"cell_type": "code", "source": ["x = 1\n", "y = 2"]}]
    path.write_text(json.dumps({"cells": cells, "nbformat": 4}))


FORMATS = {  # name of a file: the framework it needs, its writer, its reader
    "a.pt": ("torch", _model("torch"), files.read),
    "old.pt": ("torch", _legacy, files.read),
    "a.keras": ("tensorflow", _model("tensorflow"), files.read),
    "a.weights.h5": ("tensorflow", _model("tensorflow"), files.read),
    "a.msgpack": ("jax", _model("jax"), files.read),
    "a.params": ("mxnet", _model("mxnet"), files.read),
    "a.safetensors": (None, _model("torch"), files.read),
    "weights.safetensors": (None, _record, training.load_weights),
    "record.safetensors": (None, _record, recording.load),
    "record.npz": (None, _record, recording.load),
    "answer.ipynb": (None, _notebook, sources.cells),
}


def refused(name, folder, count, capfd):
    """How many of so many damaged files are refused; each in its sentence."""
    framework, write, read = FORMATS[name]
    if framework:
        load_or_skip(framework)
    path, found = folder / name, 0
    write(path)
    whole, rng = path.read_bytes(), np.random.default_rng(len(name))
    read(path)
    capfd.readouterr()
    for _ in range(count):
        path.write_bytes(damaged(whole, rng))
        try:
            read(path)
        except ValueError as error:
            found += 1
            start = path.name if name == "answer.ipynb" else str(path)
            assert str(error).startswith(start)
            assert "\n" not in str(error)
    assert capfd.readouterr() == ("", "")
    return found


@pytest.mark.parametrize("name", FORMATS)
def test_a_damaged_file_is_refused_in_a_sentence(name, tmp_path, capfd):
    assert refused(name, tmp_path, FEW, capfd) > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMATS)
def test_many_damaged_files_are_refused_in_a_sentence(name, tmp_path, capfd):
    assert refused(name, tmp_path, MANY, capfd) > MANY // 3
