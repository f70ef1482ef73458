"""The four backends by name: which are installed, and one of them on request.

They live one level below the package so that no folder named `torch` shadows the
framework when a file of the package is run as a script.
"""

import importlib
import importlib.util
import os
from types import ModuleType
from typing import Any

# What each backend imports; the first is the framework itself.
NEEDS = {
    "torch": ["torch"],
    "tensorflow": ["tensorflow", "keras"],
    "jax": ["jax", "flax", "optax"],
    "mxnet": ["mxnet"],
}
NAMES = tuple(NEEDS)
# The backend of a package, as an import or a class names it.
PACKAGES = {
    "torch": "torch",
    "tensorflow": "tensorflow",
    "keras": "tensorflow",
    "jax": "jax",
    "flax": "jax",
    "mxnet": "mxnet",
}
# What people call a backend.
ALIASES = PACKAGES | {
    "pytorch": "torch",
    "tf": "tensorflow",
    "gluon": "mxnet",
    "mx": "mxnet",
}


def named(name: str) -> str:
    """The backend that people mean by a name; the name itself where they mean none.

    >>> named("Keras"), named("caffe")
    ('tensorflow', 'caffe')
    """
    return ALIASES.get(str(name).lower(), name)


def missing(name: str) -> list[str]:
    """The packages that this backend needs and this environment lacks."""
    return [p for p in NEEDS[named(name)] if importlib.util.find_spec(p) is None]


def installed() -> list[str]:
    """Names of the backends that can be loaded here, in the order of NAMES."""
    return [name for name in NAMES if not missing(name)]


def framework_of(thing: Any) -> str:
    """The backend of a layer or model; TypeError for what is of no framework."""
    for base in type(thing).__mro__:
        if (package := base.__module__.split(".")[0]) in PACKAGES:
            return PACKAGES[package]
    raise TypeError(
        f"a layer or model of {', '.join(NAMES)} is wanted; got {type(thing).__name__}"
    )


def load(name: str, dtype: str = "float32") -> ModuleType:
    """Import one backend, ready for arrays of this dtype.

    Raises ValueError for an unknown name and ImportError, with the command that mends
    it, for a framework that is not installed.
    """
    name = named(name)
    if name not in NAMES:
        raise ValueError(f"backend must be one of {', '.join(NAMES)}; got {name!r}")
    if lacking := missing(name):
        raise ImportError(
            f"the {name} backend needs {', '.join(lacking)}: "
            f"pip install 'bn-from-scratch[{name}]'"
        )
    # An OpenMP thread that spins while it waits starves the others where cores are few:
    # with one of two cores busy, 316 images/s against 5,906.  On idle cores waiting
    # passively costs about a tenth.  Read once, when the framework loads.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    backend = importlib.import_module(f"{__name__}.{name}.interface")
    if name == "jax" and dtype == "float64":  # off by default, for the whole process
        importlib.import_module("jax").config.update("jax_enable_x64", True)
    return backend


def part(name: str, module: str) -> ModuleType:
    """A module of a backend, for what the backend does not export."""
    return importlib.import_module(f"{__name__}.{named(name)}.{module}")
