"""Keras: `model.save("x.keras")` or `model.save_weights("x.weights.h5")`.

Both are read without making the model that wrote them: a .keras file is a zip of that
HDF5 file and of a JSON description.  No code that a file brings or names is ever run.
"""

import importlib
import io
import json
import zipfile
import zlib
from pathlib import Path
from typing import Any

from bn_from_scratch import backends
from bn_from_scratch.port import recognize, settings
from bn_from_scratch.port.content import Content
from bn_from_scratch.port.formats import keras_h5

FRAMEWORK = "tensorflow"
WEIGHTS, CONFIG = "model.weights.h5", "config.json"


def read(path: Path, absent: str | None = None) -> Content:
    """`absent`: what layers of three vectors lack, where the file does not say."""
    h5py = _h5py()
    blob, configs = _opened(Path(path))
    try:
        with h5py.File(io.BytesIO(blob)) as file:
            said = file.attrs.get(settings.KEY)
            lacking = settings.absent(said)
            content = keras_h5.content(file, len(blob), configs, lacking, absent)
            return settings.from_json(content, said)
    except (OSError, KeyError, RuntimeError, AttributeError, TypeError) as error:
        raise ValueError(f"HDF5 cannot read it: {error}") from None


def write(path: Path, content: Content) -> None:
    """As Keras writes the LeNet, or a model of the batch norms, one beside another."""
    from bn_from_scratch.port import network

    if content.others:
        model = network.trainer_of(content).model
    else:
        model = _side_by_side(content)
    if Path(path).suffix == ".keras":
        model.save(path)
        return
    model.save_weights(path)
    with _h5py().File(path, "a") as file:
        file.attrs[settings.KEY] = settings.to_json(content)


def save_model(trainer: Any, path: Path) -> None:
    trainer.model.save(path)


def _h5py():
    try:
        return importlib.import_module("h5py")
    except ImportError:
        message = "a file of Keras needs h5py: pip install h5py"
        raise ImportError(message) from None


def _side_by_side(content):
    """A model with a batch norm for each input, named by its path."""
    backends.load(FRAMEWORK)
    import keras

    from bn_from_scratch.port import layers

    inputs, outputs = [], []
    for path, norm in content.norms.items():
        layer = layers.make(FRAMEWORK, norm, norm.dtype, num_dims=2, name=path)
        inputs.append(keras.Input((norm.size,), dtype=norm.dtype))
        outputs.append(layer(inputs[-1]))
        layer.set_weights(list(norm.full().values()))
    return keras.Model(inputs, outputs)


def _opened(path):
    """The bytes of the HDF5 file, and {path of a layer: its description}."""
    blob = path.read_bytes()
    zipped = blob.startswith(b"PK") or path.suffix == ".keras"
    if not zipped or blob.startswith(recognize.HDF5):
        return blob, {}
    try:
        with zipfile.ZipFile(io.BytesIO(blob)) as file:
            config = json.loads(file.read(CONFIG))
            return file.read(WEIGHTS), dict(_described(config))
    except (zipfile.BadZipFile, zlib.error, EOFError, LookupError) as error:
        raise ValueError(f"it is no whole zip of Keras: {error}") from None
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"its {CONFIG} cannot be read: {error}") from None


def _described(config, prefix=""):
    """The descriptions of the layers that a description of a model holds."""
    inner = config.get("config", {})
    for layer in inner.get("layers", ()) if isinstance(inner, dict) else ():
        path = f"{prefix}{layer['config'].get('name', layer.get('name'))}"
        yield path, layer
        yield from _described(layer, f"{path}.")
