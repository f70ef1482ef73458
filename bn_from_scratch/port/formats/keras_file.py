"""Keras: `model.save("x.keras")`, `model.save_weights("x.weights.h5")`, or .h5 files.

All are read without making the model that wrote them: a .keras file is a zip of that
HDF5 file and of a JSON description; the .h5 of Keras 2 has names for its arrays, and
the JSON as an attribute.  No code that a file brings or names is ever run.
"""

import importlib
import io
import zipfile
from pathlib import Path
from typing import Any

from bn_from_scratch import backends, reading
from bn_from_scratch.port import recognize, settings
from bn_from_scratch.port.content import Content
from bn_from_scratch.port.formats import hdf5, keras2_h5, keras_config, keras_h5

FRAMEWORK = "tensorflow"
WEIGHTS, CONFIG = "model.weights.h5", "config.json"


def read(path: Path, absent: str | None = None) -> Content:
    """`absent`: what layers of three vectors lack, where the file does not say."""
    h5py = _h5py()
    blob, described = _opened(Path(path))
    hdf5.check_heaps(blob)
    with (
        reading.door("HDF5 cannot read it", ValueError),
        h5py.File(io.BytesIO(blob)) as file,
    ):
        hdf5.check_tree(file, path)
        if keras2_h5.is_one(file):
            return keras2_h5.content(file, len(blob), _model_config(file))
        said = file.attrs.get(settings.KEY)
        lacking = settings.absent(said)
        content = keras_h5.content(file, len(blob), described, lacking, absent)
        return settings.from_json(content, said)


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


def _model_config(file):
    """The description of the model in a file of Keras 2; {} in one of weights alone."""
    said = file.attrs.get("model_config")
    with reading.door("its model_config cannot be read"):
        return keras_config.parse(hdf5.text(said)) if said is not None else {}


def _opened(path):
    """The bytes of the HDF5 file, and the description of the model, or {}."""
    blob = path.read_bytes()
    zipped = blob.startswith(b"PK") or path.suffix == ".keras"
    if not zipped or blob.startswith(recognize.HDF5):
        return blob, {}
    with reading.door("it is no whole zip of Keras"):
        reading.check_zip(path)
        with zipfile.ZipFile(io.BytesIO(blob)) as file:
            config, weights = file.read(CONFIG), file.read(WEIGHTS)
    with reading.door(f"its {CONFIG} cannot be read"):
        return weights, keras_config.parse(config)
