"""Batch normalization, written once as mathematics and once per framework as code.

The mathematics
    spec            every equation once, in NumPy
    checks          what a layer accepts
    combinations    which variants go together
The frameworks: `from bn_from_scratch import torch as bn`
    torch, tensorflow, jax, mxnet
                    the spec translated, the same names in each: batch_norm, BatchNorm
                    and its variants, builtin, probe, LeNet, BNLeNet, Trainer; for whole
                    models batch_norms, replace_batch_norm, fold_batch_norm, reestimate
    backends        finds and loads them by name, and imports none unasked
Training
    data            Fashion-MNIST, or garments drawn by code
    training        the epoch loop, its history and its checkpoints
    lenet           the network as data
    phases          what may follow: statistics anew, 8 bits, no batch norm left
Whole models
    port            carries their batch norms to another framework
    diagnosis       says why two of them answer differently
    health          says which of their batch norms are unwell, and of what
    surgery         what replacing and folding batch norms share in all frameworks
All of it at work
    compare         the frameworks held to the spec and to each other
    checker         which mistake the answer to an exercise makes
    course          what the notebooks share
    presentation    tables, pictures and pages
    cli             the command line, `bn`
"""

import importlib
from typing import TYPE_CHECKING, Any

from bn_from_scratch import backends

if TYPE_CHECKING:  # for editors, what `__getattr__` gives
    from bn_from_scratch.backends.jax import interface as jax
    from bn_from_scratch.backends.mxnet import interface as mxnet
    from bn_from_scratch.backends.tensorflow import interface as tensorflow
    from bn_from_scratch.backends.torch import interface as torch

    __all__ = ["jax", "mxnet", "tensorflow", "torch"]
    __version__: str

MODULES = (
    *("backends", "checker", "checks", "cli", "combinations", "compare", "course"),
    *("data", "diagnosis", "health", "lenet", "phases", "port", "presentation"),
    *("spec", "surgery", "training"),
)


class _Listed(str):
    """A name that `dir` gives: to look it up loads no framework.

    `help` looks up all of them, and would end at the first framework that is absent.
    """


def __dir__() -> list[str]:
    return sorted(map(_Listed, ("__version__", *MODULES, *backends.NAMES)))


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return _version()
    if name in backends.NAMES and not isinstance(name, _Listed):
        try:
            return backends.load(name)
        except AttributeError as error:  # `from ... import` would hide it
            raise ImportError(f"the {name} backend fails to import: {error}") from error
    if name in MODULES and not isinstance(name, _Listed):
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _version() -> str:
    """That of pyproject.toml: as installed, or of a checkout that is not."""
    import importlib.metadata
    import pathlib
    import tomllib

    try:
        return importlib.metadata.version("bn-from-scratch")
    except importlib.metadata.PackageNotFoundError:
        project = pathlib.Path(__file__).parent.parent / "pyproject.toml"
        if not project.is_file():
            return "0+unknown"
        return tomllib.loads(project.read_text("utf-8"))["project"]["version"]
