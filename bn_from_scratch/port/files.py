"""A file of any format to a `Content` and back; the suffix says which format it is."""

import importlib
from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import Any

from bn_from_scratch import backends
from bn_from_scratch.port import content
from bn_from_scratch.port.content import NEUTRAL, Content
from bn_from_scratch.port.words import TITLES

FORMATS: dict[
    str, tuple[str | None, str]
] = {  # suffix: framework (None: several), module
    ".pt": ("torch", "torch_pt"),
    ".pth": ("torch", "torch_pt"),
    ".keras": ("tensorflow", "keras_file"),
    ".weights.h5": ("tensorflow", "keras_file"),
    ".msgpack": ("jax", "flax_msgpack"),
    ".params": ("mxnet", "gluon_params"),
    ".safetensors": (None, "safetensors_file"),
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
) -> Content:
    """What a file holds, if it passes the check.

    from_: the framework of a .safetensors whose names could be of several.
    absent: "gamma" or "beta", of the layers of a .weights.h5 that have one of them.

    Errors: ValueError for a file that is not whole, not of its format or without batch
    norms; OSError where there is none.
    """
    path = Path(path)
    framework, module = _format(path)
    if absent not in (None, *NEUTRAL):
        raise ValueError(f"gamma or beta can be absent; got {absent!r}")
    if framework and from_ not in (None, framework):
        raise ValueError(f"{path} is a file of {TITLES[framework]}, not of {from_}")
    options = {}
    if framework is None:
        options = {"framework": from_}
    elif framework == "tensorflow":
        options = {"absent": absent}
    path.open("rb").close()  # absent or a folder: the system's own words
    try:
        return check(module.read(path, **options))
    except ValueError as error:
        raise ValueError(f"{path} cannot be carried: {error}") from None


def write(path: str | PathLike[str], given: Content) -> None:
    """Write a `Content` in the format of the path's suffix."""
    _format(path)[1].write(Path(path), given)


def save_model(path: str | PathLike[str], trainer: Any) -> None:
    """Save a trained model as its framework itself does."""
    _format(path)[1].save_model(trainer, Path(path))


def target(
    source: str | PathLike[str], to: str, out: str | PathLike[str] | None = None
) -> Path:
    """Where to write; ValueError for a suffix that is not one of the framework's."""
    if to not in backends.NAMES:
        known = ", ".join(backends.NAMES)
        raise ValueError(f"a file can be carried to {known}; got {to!r}")
    if out is None:
        return Path(str(source).removesuffix(suffix(source)) + CUSTOMARY[to])
    own = [s for s, (framework, _) in FORMATS.items() if framework == to]
    if to != "tensorflow":  # Keras reads none
        own.append(".safetensors")
    if suffix(out) not in own:
        raise ValueError(
            f"a file of {TITLES[to]} ends in {' or '.join(own)}; got {out}"
        )
    return Path(out)


def suffix(path: str | PathLike[str]) -> str:
    """The suffix that tells the format of a file; ValueError for an unknown one."""
    for known in FORMATS:
        if Path(path).name.endswith(known):
            return known
    known = ", ".join(FORMATS)
    raise ValueError(f"a file to carry ends in one of {known}; got {path}")


def _format(path):
    framework, module = FORMATS[suffix(path)]
    return framework, importlib.import_module(f"{__package__}.formats.{module}")
