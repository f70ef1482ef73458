"""`bn compare precision`: float32 output against float64 on the same input."""

from collections.abc import Callable, Sequence
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np

from bn_from_scratch import backends, spec
from bn_from_scratch.backends.norms import norm_layer
from bn_from_scratch.presentation.table import Figure, table

SHAPES = ((128, 6, 24, 24), (64, 64, 56, 56))
MEANS = (0.0, 1e2, 1e3, 1e4)
MEMORY: dict[
    str, tuple[str, ...]
] = {  # the orders a backend's [N, C, H, W] or [N, H, W, C] can have
    "torch": ("channels-first", "channels-last"),
    "tensorflow": ("channels-last",),
    "jax": ("channels-last",),
    "mxnet": ("channels-first",),
}


def bound(mean: float, std: float = 1.0) -> float:
    """The promise: largest error of the output, in units of its standard deviation.

    The second term is the rounding of a float32 mean, two units of 2^-24.
    """
    return 1e-5 + 1.2e-7 * abs(mean) / std


def make_input(
    shape: tuple[int, ...], mean: float, memory: str = "channels-first", seed: int = 0
) -> np.ndarray:
    """Standard normal numbers around `mean`, float32 [N, C, H, W], in this order."""
    X = np.random.default_rng(seed).normal(mean, 1, shape).astype(np.float32)
    if memory == "channels-last":
        X = np.moveaxis(np.ascontiguousarray(np.moveaxis(X, 1, -1)), -1, 1)
    return X


def reference(X: np.ndarray) -> np.ndarray:
    """The output in float64: gamma 1, beta 0, training."""
    one, zero = np.ones(X.shape[1]), np.zeros(X.shape[1])
    return spec.batch_norm(X, one, zero, zero, one, training=True)[0]


def error(bn: ModuleType, layer: Any, X: np.ndarray, Y: np.ndarray) -> float:
    """Largest error of the layer's float32 output Y on X (std 1)."""
    got = bn.probe(layer, X, np.zeros_like(X), training=True)["Y"]
    return float(np.max(np.abs(got - Y)))


def compare_precision(
    names: Sequence[str],
    norms: Sequence[str],
    progress: Callable[[str], None] = lambda text: None,
) -> list[dict[str, Any]]:
    """A row for each backend, norm, memory order, shape and mean."""
    rows = []
    for shape in SHAPES:
        for mean in MEANS:
            Y = reference(make_input(shape, mean))
            for name in names:
                progress(f"{name}, shape {shape}, mean {mean:g}")
                bn = backends.load(name)
                makers = {norm: norm_layer(bn, norm) for norm in norms}
                if name == "jax" and "builtin" in norms:  # what Flax does unasked
                    makers["one-pass"] = partial(bn.builtin, use_fast_variance=True)
                for norm, make in makers.items():
                    for memory in MEMORY[name]:
                        X = make_input(shape, mean, memory)
                        row = {"backend": name, "norm": norm, "memory": memory}
                        row |= {
                            "shape": list(shape),
                            "mean": mean,
                            "bound": bound(mean),
                        }
                        row["error"] = error(bn, make(shape[1], len(shape)), X, Y)
                        rows.append(row)
    return rows


def agree(rows: list[dict[str, Any]]) -> bool:
    """Whether our own layers keep the promise; the built-in ones need not."""
    return all(row["error"] <= row["bound"] for row in rows if row["norm"] == "scratch")


def render(rows: list[dict[str, Any]]) -> str:
    """A line per layer and shape, a column per mean, and the verdict."""
    layers = {}
    for row in rows:
        shape = ", ".join(map(str, row["shape"]))
        key = (row["backend"], row["norm"], row["memory"], f"({shape})")
        layers.setdefault(key, []).append(Figure(row["error"]))
    limits = [Figure(bound(mean)) for mean in MEANS]
    cells = [[*key, *errors] for key, errors in layers.items()]
    cells.append(["bound for ours", "", "", "", *limits])
    header = ["backend", "norm", "memory", "shape", *(f"mean {m:g}" for m in MEANS)]
    kept = "keeps its bound" if agree(rows) else "DOES NOT keep its bound"
    title = "Largest error of the float32 output (std 1) against float64, same input."
    lines = [
        title,
        "",
        table(header, cells),
        "",
        f"Scratch {kept}.",
    ]
    return "\n".join(lines)
