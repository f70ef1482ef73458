"""The inputs of the checks: small, generic, and the same in every process."""

import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

Output = tuple[str, Callable[[], Any]]  # its name, and what gives it
Result = TypeVar("Result")

CHANNEL_AXES = {"numpy": 1, "torch": 1, "tensorflow": -1, "jax": -1, "mxnet": 1}
SHAPES: dict[str, tuple[int, ...]] = {
    "2-D": (5, 2),
    "4-D": (4, 2, 3, 5),
}  # [N, C, *]: none equal


@dataclasses.dataclass(frozen=True)
class Case:
    """One call: its arguments, and what to read off it.

    >>> X, dY, vectors = inputs((5, 2), "numpy")
    >>> case = Case("2-D", {"X": X}, outputs=("mean", "var"))
    >>> case.arguments["X"].shape, case.tolerance
    ((5, 2), 0.0005)
    """

    name: str
    arguments: dict[str, np.ndarray]  # in the order of the call
    options: dict[str, Any] = dataclasses.field(default_factory=dict)  # by keyword
    outputs: tuple[str, ...] = ()
    cotangent: np.ndarray | None = None  # of the first output; None: no gradient
    tolerance: float = 5e-4  # of the largest value; float32 rounds to a hundredth of it


def inputs(
    shape: tuple[int, ...], framework: str, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """X and dY of a shape [N, C, *] in the layout of the framework, and vectors [C].

    Every channel has its own mean and scale; one decimal, to be read in a message.
    """
    rng = np.random.default_rng((seed, *shape))
    C = shape[1]
    scale, shift = 1 + np.arange(C), 2.0 - 3 * np.arange(C)
    X = rng.normal(size=(shape[0], *shape[2:], C)) * scale + shift
    X = layout(np.moveaxis(X, -1, 1).round(1), framework)
    ranges = {
        "gamma": (0.5, 2),
        "beta": (-2, -0.5),
        "moving_mean": (0.5, 2),
        "moving_var": (2, 4),
        "mean": (-1, 1),
        "var": (0.5, 2),
    }
    vectors = {
        name: rng.uniform(low, high, C).round(1) for name, (low, high) in ranges.items()
    }
    return X, rng.normal(size=X.shape).round(1), vectors


def layout(X: np.ndarray, framework: str) -> np.ndarray:
    """[N, C, *] with the channels where the framework has them."""
    return np.ascontiguousarray(np.moveaxis(X, 1, CHANNEL_AXES[framework]))


def once(function: Callable[[], Result]) -> Callable[[], Result]:
    """The function, its result kept."""
    kept = []

    def result():
        if not kept:
            kept.append(function())
        return kept[0]

    return result
