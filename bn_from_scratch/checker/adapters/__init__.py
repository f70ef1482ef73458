"""The five kinds of answers: how each framework's functions and layers are run.

Every adapter has the same names: `call(function, case)` gives the outputs of one call
as NumPy arrays, `Layer(make, X)` wraps a student's layer in what
`checker.layer_script` asks for.
"""

import abc
import ast
import importlib
from collections.abc import Iterable
from types import ModuleType
from typing import Any

import numpy as np

from bn_from_scratch import reading
from bn_from_scratch.backends import PACKAGES
from bn_from_scratch.checker.cases import Case

FRAMEWORKS = ("numpy", "torch", "tensorflow", "jax", "mxnet")


def load(framework: str) -> ModuleType:
    """The adapter of a framework, ready for what it imports."""
    if framework not in FRAMEWORKS:
        names = ", ".join(FRAMEWORKS)
        raise ValueError(f"framework must be one of {names}; got {framework!r}")
    if framework != "numpy":
        from bn_from_scratch import backends

        backends.load(framework)
    return importlib.import_module(f"{__name__}.{framework}")


def framework_of_source(source: str) -> str:
    """The framework that a program imports; numpy where it imports none."""
    with reading.door("it is no program", SyntaxError):
        tree = ast.parse(source)
    for node in ast.walk(tree):
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
            if node.module == "bn_from_scratch":  # from bn_from_scratch import torch
                names = [a.name for a in node.names]
        for name in names:
            if (top := name.split(".")[0]) in PACKAGES:
                return PACKAGES[top]
    return "numpy"


def framework_of_objects(objects: Iterable[object]) -> str:
    """The framework that functions or classes use; numpy where they use none."""
    for thing in objects:
        functions = (
            [thing, *vars(thing).values()] if isinstance(thing, type) else [thing]
        )
        modules = [base.__module__ for base in getattr(thing, "__mro__", ())]
        for function in functions:
            used = getattr(function, "__globals__", {})
            names = getattr(getattr(function, "__code__", None), "co_names", ())
            found = [used[name] for name in names if name in used]
            modules += [getattr(v, "__name__", "") for v in found]
            modules += [getattr(v, "__module__", "") or "" for v in found]
        for module in modules:
            if (top := module.split(".")[0]) in PACKAGES:
                return PACKAGES[top]
    return "numpy"


def gradients_of(case: Case) -> list[str]:
    """Names of the arguments that a case wants the gradients of."""
    return ["X", "gamma", "beta"] if case.cotangent is not None else []


def first(outputs: Any) -> Any:
    """The output that has gradients; NotImplementedError where a hole gives none."""
    if outputs is None:
        raise NotImplementedError
    return outputs[0] if isinstance(outputs, tuple | list) else outputs


def exact(value: Any) -> np.ndarray:
    """A case's array as an answer gets it: float16 stays, all else is float32."""
    value = np.asarray(value)
    return value if value.dtype in (np.float16, np.int64) else value.astype(np.float32)


class StudentLayer(abc.ABC):
    """What `checker.layer_script` asks of every layer, by its `train` and `predict`.

    >>> class Doubling(StudentLayer):
    ...     def train(self, X, recorded=True):
    ...         return 2 * X
    ...
    ...     def predict(self, X, recorded=False):
    ...         return X
    >>> Doubling().empty(np.ones((1, 2))).tolist()
    [[1.0, 1.0]]
    """

    @abc.abstractmethod
    def train(self, X: np.ndarray, recorded: bool = True) -> np.ndarray:
        """Y of one batch in training; the moving averages move."""

    @abc.abstractmethod
    def predict(self, X: np.ndarray, recorded: bool = False) -> np.ndarray:
        """Y in prediction."""

    def wrong(self, X: np.ndarray, what: str) -> None:
        """A training call with an input that must be refused."""
        self.train(X)

    def empty(self, X: np.ndarray) -> np.ndarray:
        """Y in prediction after a training call without a single example."""
        try:
            self.train(X[:0])
        except ValueError:
            pass  # refused: the averages are left alone
        return self.predict(X)
