"""A file of any format to a `Content` and back.

What is read is told by its content; the suffix says what is written, and stands in
where the content tells nothing.
"""

import importlib
from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import Any

from bn_from_scratch import backends, reading
from bn_from_scratch.files import written_whole
from bn_from_scratch.port import content, recognize
from bn_from_scratch.port.content import NEUTRAL, Content
from bn_from_scratch.port.words import TITLES

FORMATS: dict[
    str, tuple[str | None, str]
] = {  # suffix: framework (None: several), module
    ".pt": ("torch", "torch_pt"),
    ".pth": ("torch", "torch_pt"),
    ".keras": ("tensorflow", "keras_file"),
    ".weights.h5": ("tensorflow", "keras_file"),
    ".h5": ("tensorflow", "keras_file"),
    ".hdf5": ("tensorflow", "keras_file"),
    ".msgpack": ("jax", "flax_msgpack"),
    ".params": ("mxnet", "gluon_params"),
    ".safetensors": (None, "safetensors_file"),
    ".npz": (None, "npz_file"),
}
FRAMEWORKS = {module: framework for framework, module in FORMATS.values()}
OTHERS = (".pth.tar", ".bin", ".ckpt")  # of several formats: their content tells
WRITTEN: dict[
    str, tuple[str, ...]
] = {  # the formats that are written for each framework
    "torch": (".pt", ".pth", ".safetensors"),
    "tensorflow": (".keras", ".weights.h5"),
    "jax": (".msgpack", ".safetensors"),
    "mxnet": (".params", ".safetensors"),
}
WITH_SETTINGS = (".pt", ".pth", ".weights.h5", ".safetensors")  # JSON beside arrays
CUSTOMARY = {
    "torch": ".pt",
    "tensorflow": ".weights.h5",
    "jax": ".msgpack",
    "mxnet": ".params",
}


def read(
    path: str | PathLike[str],
    from_: str | None = None,
    absent: str | None = None,
    check: Callable[[Content], Content] = content.check,
    use: str = "carried",
) -> Content:
    """What a file holds, if it passes the check.

    from_: the framework of a .safetensors whose names could be of several.
    absent: "gamma" or "beta", of the layers of a .weights.h5 that have one of them.
    use: what an error says that the file cannot be.

    Errors: ValueError for a file that is not whole, not of its format, without batch
    norms or of a size beyond the limit of `reading`; OSError where there is none.
    """
    path, from_ = Path(path), backends.named(from_) if from_ else None
    if absent not in (None, *NEUTRAL):
        raise ValueError(f"gamma or beta can be absent; got {absent!r}")
    with reading.door(f"{path} cannot be {use}", OSError):
        name = _recognized(path) or _module_by_suffix(path)
    framework = FRAMEWORKS[name]
    if framework and from_ not in (None, framework):
        raise ValueError(f"{path} is a file of {TITLES[framework]}, not of {from_}")
    options = {}
    if framework is None:
        options = {"framework": from_}
    elif framework == "tensorflow":
        options = {"absent": absent}
    reading.check_file(path)
    with reading.door(f"{path} cannot be {use}"):
        return check(_module(name).read(path, **options))


def write(path: str | PathLike[str], given: Content) -> None:
    """Write a `Content` in the format of the path's suffix, whole or not at all."""
    module = _module(FORMATS[suffix(path)][1])
    with written_whole(path) as place:
        module.write(place, given)


def save_model(path: str | PathLike[str], trainer: Any) -> None:
    """Save a trained model as its framework itself does, whole or not at all."""
    module = _module(FORMATS[suffix(path)][1])
    with written_whole(path) as place:
        module.save_model(trainer, place)


def target(
    source: str | PathLike[str], to: str, out: str | PathLike[str] | None = None
) -> Path:
    """Where to write; ValueError for a suffix that is not one of the framework's."""
    if to not in backends.NAMES:
        known = ", ".join(backends.NAMES)
        raise ValueError(f"a file can be carried to {known}; got {to!r}")
    if out is None:
        known = (s for s in (*OTHERS, *FORMATS) if str(source).endswith(s))
        return Path(str(source).removesuffix(next(known, "")) + CUSTOMARY[to])
    if not Path(out).name.endswith(WRITTEN[to]):
        known = " or ".join(WRITTEN[to])
        raise ValueError(f"a file of {TITLES[to]} ends in {known}; got {out}")
    return Path(out)


def suffix(path: str | PathLike[str]) -> str:
    """The suffix that tells the format of a file; ValueError for an unknown one."""
    for known in FORMATS:
        if Path(path).name.endswith(known):
            return known
    known = ", ".join(FORMATS)
    raise ValueError(f"a file to write ends in one of {known}; got {path}")


def _recognized(path):
    """The module that reads the file, by its content; None where nothing tells."""
    if not path.exists():
        return None
    reading.check_file(path)
    return recognize.module(path)


def _module_by_suffix(path):
    """For a file whose content tells nothing: the module says what is wrong with it."""
    for known, (_, name) in FORMATS.items():
        if path.name.endswith(known):
            return name
    path.open("rb").close()  # absent or a folder: the system's own words
    known = ", ".join(FORMATS)
    raise ValueError(f"its content is of no format known here, of {known}")


def _module(name):
    return importlib.import_module(f"{__package__}.formats.{name}")
