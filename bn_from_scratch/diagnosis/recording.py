"""What one batch norm was given and answered: a flat dict of arrays, and its file.

A key is `[layer.][event.]name`, such as `step1.Y` or `bn1.prediction.X`:

    gamma, beta, moving_mean, moving_var    [C]      what the layer starts from
    eps, momentum                           []       its settings, where known; momentum
                                                     is the weight of the new batch
    stored.gamma, ...                       [C]      its own, before it was recorded
    step1.X, step1.dY                       [N, C, *]  step2, ...: training, in order
    step1.Y, step1.dX, step1.dgamma, step1.dbeta
    step1.moving_mean, step1.moving_var     [C]      after the forward
    step1.backward_moving_mean, ..._var     [C]      after the backward
    prediction.X, prediction.Y, prediction.moving_mean, ...   after the steps
    half.X, half.Y                          float16  a training step from the start

All may be missing but an X.  X without an event belongs to step1, as do dY, Y, dX,
dgamma and dbeta.
"""

import dataclasses
import io
import pathlib
import re
import zipfile
from collections.abc import Mapping
from os import PathLike
from typing import Any

import numpy as np

from bn_from_scratch import reading
from bn_from_scratch.files import write_atomically
from bn_from_scratch.training import load_weights, save_weights

Record = dict[str, np.ndarray]

STATE = ("gamma", "beta", "moving_mean", "moving_var")
SETTINGS = ("eps", "momentum")
GIVEN = ("X", "dY")
PASS = ("Y", "dX", "dgamma", "dbeta")
MOVED = ("moving_mean", "moving_var", "backward_moving_mean", "backward_moving_var")
OUTPUTS = (*PASS, *MOVED)
IMAGES = ("X", "dY", "Y", "dX")  # [N, C, *]
EVENT = re.compile(r"(step|prediction|half)(\d*)")
EVENT_ORDER = ("step", "prediction", "half")


@dataclasses.dataclass
class Event:
    """One call of the layer: what it was given and what it answered, by name.

    >>> Event("step1").training, Event("prediction").training
    (True, False)
    """

    name: str
    values: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)

    @property
    def training(self) -> bool:
        """Whether it was a call in training mode."""
        return not self.name.startswith("prediction")

    @property
    def half(self) -> bool:
        """Whether it was the 16-bit call, which starts from the start."""
        return self.name.startswith("half")


@dataclasses.dataclass
class Recording:
    """The record of one layer, sorted.

    >>> recordings({"X": np.zeros((8, 5)), "eps": 1e-3})[""].num_features
    5
    """

    start: dict[str, np.ndarray]
    settings: dict[str, float]
    stored: dict[str, np.ndarray]
    events: list[Event]

    @property
    def num_features(self) -> int:
        """The C of X [N, C, *]."""
        return self.sizes[0]

    @property
    def sizes(self) -> tuple[int, int]:
        """num_features and num_dims of X."""
        X = self.events[0].values["X"]
        return X.shape[1], X.ndim


def recordings(record: Mapping[str, Any]) -> dict[str, Recording]:
    """The Recording of every layer in a record, by name; "" where it has none.

    Raises ValueError for keys and shapes that no record has.
    """
    layers = {}
    for key, value in record.items():
        layer, event, name = _parsed(key)
        value = np.asarray(value)
        if value.dtype.kind not in "fiu":
            raise ValueError(f"{key} must hold numbers; its dtype is {value.dtype}")
        layers.setdefault(layer, {}).setdefault(event, {})[name] = value
    if not layers:
        raise ValueError("the record is empty")
    return {name: _recording(name, events) for name, events in layers.items()}


def _parsed(key):
    """Layer, event and name of a key.  -> ("bn1", "step1", "X")"""
    *path, name = key.split(".")
    event = ""
    if path and (EVENT.fullmatch(path[-1]) or path[-1] == "stored"):
        event = path.pop()
    elif name in GIVEN + PASS:
        event = "step1"
    known = GIVEN + OUTPUTS if EVENT.fullmatch(event) else STATE
    if name not in known + (SETTINGS if not event else ()):
        raise ValueError(
            f"{key!r} is no key of a record; known are {', '.join(STATE + SETTINGS)}, "
            f"and of an event, as in step1.X, {', '.join(GIVEN + OUTPUTS)}"
        )
    return ".".join(path), event, name


def _recording(layer, found):
    start, stored = found.pop("", {}), found.pop("stored", {})
    settings = {k: _number(k, start.pop(k)) for k in SETTINGS if k in start}
    events = [Event(name, found[name]) for name in sorted(found, key=_position)]
    prefix = f"{layer}." if layer else ""
    for event in events:
        if "X" not in event.values:
            raise ValueError(f"the record lacks {prefix}{event.name}.X")
    if not events:
        raise ValueError(f"the record lacks {prefix}step1.X or {prefix}prediction.X")
    recording = Recording(start, settings, stored, events)
    _check_shapes(recording, prefix)
    return recording


def _number(key, value):
    if value.size != 1:
        raise ValueError(f"{key} must be one number; its shape is {value.shape}")
    return float(value.item())


def _position(name):
    kind, number = EVENT.findall(name)[0]
    return EVENT_ORDER.index(kind), int(number or 0)


def _check_shapes(recording, prefix):
    """Raise ValueError unless X is [N, C, *] and all that belongs to it fits."""
    for event in recording.events:
        X = event.values["X"]
        if X.ndim < 2:
            key = f"{prefix}{event.name}.X"
            raise ValueError(f"X must be [N, C, *]; {key} has shape {X.shape}")
        if not X.size:
            key = f"{prefix}{event.name}.X"
            raise ValueError(f"X must have values; {key} has shape {X.shape}")
        C = recording.num_features
        for name, value in event.values.items():
            wanted = (C,) if name not in IMAGES else (X.shape[0], C, *X.shape[2:])
            _check_shape(f"{prefix}{event.name}.{name}", value, wanted)
    for name, value in recording.start.items():
        _check_shape(f"{prefix}{name}", value, (C,))


def _check_shape(key, value, wanted):
    if value.shape != wanted:
        raise ValueError(f"{key} must have shape {wanted}; its shape is {value.shape}")


# --- Files ---------------------------------------------------------------------------


def save(record: Record, path: str | PathLike[str]) -> None:
    """Write a record to a .safetensors or .npz file, whole or not at all."""
    path = pathlib.Path(path)
    recordings(record)
    if _kind(path) == ".safetensors":
        save_weights(path, record)
        return
    content = io.BytesIO()
    np.savez(content, allow_pickle=False, **record)
    write_atomically(path, content.getvalue())


def load(path: str | PathLike[str]) -> Record:
    """The record of a file; ValueError for one that is corrupt or holds no record."""
    path = pathlib.Path(path)
    if _kind(path) == ".safetensors":
        record = load_weights(path)
    else:
        record = _load_npz(path)
    try:
        recordings(record)
    except ValueError as error:
        raise ValueError(f"{path} is no record of a batch norm: {error}") from None
    return record


def _kind(path):
    kind = pathlib.Path(path).suffix
    if kind not in (".safetensors", ".npz"):
        raise ValueError(f"a record is a .safetensors or .npz file; got {path}")
    return kind


def _load_npz(path):
    reading.check_file(path)
    if not zipfile.is_zipfile(path):  # else `np.load` tries other formats
        raise ValueError(f"{path} is not a whole .npz file")
    with reading.door(f"{path} is not a whole .npz file"):
        return reading.npz(path)
