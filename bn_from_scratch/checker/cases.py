"""The inputs of the checks: small, generic, and the same in every process."""

import dataclasses

import numpy as np

CHANNEL_AXES = {"numpy": 1, "torch": 1, "tensorflow": -1, "jax": -1, "mxnet": 1}
SHAPES = {"2-D": (5, 2), "4-D": (4, 2, 3, 5)}  # [N, C, *], all sizes different


@dataclasses.dataclass(frozen=True)
class Case:
    """One call: its arguments, and what to read off it."""

    name: str
    arguments: dict  # arrays by name, in the order of the call
    options: dict = dataclasses.field(default_factory=dict)  # by keyword
    outputs: tuple = ()
    cotangent: np.ndarray | None = None  # of the first output; None: no gradient
    tolerance: float = 5e-4  # of the largest value; float32 rounds to a hundredth of it


def inputs(shape, framework, seed=0):
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
    vectors = {name: rng.uniform(*ends, C).round(1) for name, ends in ranges.items()}
    return X, rng.normal(size=X.shape).round(1), vectors


def layout(X, framework):
    """[N, C, *] with the channels where the framework has them."""
    return np.ascontiguousarray(np.moveaxis(X, 1, CHANNEL_AXES[framework]))


def once(function):
    """The function, its result kept."""
    kept = []

    def result():
        if not kept:
            kept.append(function())
        return kept[0]

    return result
