"""`bn compare precision`: float32 output and 16-bit dX, against float64."""

from collections.abc import Callable, Sequence
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np

from bn_from_scratch import backends, spec
from bn_from_scratch.backends.norms import norm_layer
from bn_from_scratch.case import difference
from bn_from_scratch.presentation.table import Figure, table

SHAPES = ((128, 6, 24, 24), (64, 64, 56, 56))
MEANS = (0.0, 1e2, 1e3, 1e4)
GRADIENT_SHAPES = ((3, 3), (64, 6, 7, 7))  # the first shows two roundings best
ONE_ROUNDING = 2**-11 + 1e-5  # of a float16, after float32 arithmetic
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


def gradient_error(bn: ModuleType, layer: Any, shape: tuple[int, ...]) -> float:
    """Largest error of the layer's float16 dX (gamma 1), relative to the largest."""
    X, dY = np.random.default_rng(0).normal(size=(2, *shape)).astype(np.float16)
    one, zero = np.ones(shape[1]), np.zeros(shape[1])
    want = spec.batch_norm_backward(dY, X, one, zero, one, training=True)[0]
    return difference(bn.probe(layer, X, dY, training=True)["dX"], want)


def compare_gradients(
    names: Sequence[str], norms: Sequence[str]
) -> list[dict[str, Any]]:
    """A row for each backend, norm and shape: the error of dX in 16 bits."""
    rows = []
    for name in names:
        bn = backends.load(name)
        for norm in norms:
            # What Keras casts to, and what Flax answers in, is a setting of the layer.
            own: dict[str, Any] = {"tensorflow": {"dtype": "mixed_float16"}}
            if norm == "builtin":
                own["jax"] = {"dtype": "float16"}
            for shape in GRADIENT_SHAPES:
                layer = norm_layer(bn, norm)(shape[1], len(shape), **own.get(name, {}))
                row = {"backend": name, "norm": norm, "shape": list(shape)}
                row |= {"bound": ONE_ROUNDING}
                rows.append(row | {"error": gradient_error(bn, layer, shape)})
    return rows


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


def render_gradients(rows: list[dict[str, Any]]) -> str:
    """A line per layer, a column per shape, and the verdict."""
    layers = {}
    for row in rows:
        key = row["backend"], row["norm"]
        layers.setdefault(key, []).append(Figure(row["error"]))
    cells = [[*key, *errors] for key, errors in layers.items()]
    cells.append(["bound for ours", "", *[Figure(ONE_ROUNDING)] * len(GRADIENT_SHAPES)])
    header = ["backend", "norm", *map(str, GRADIENT_SHAPES)]
    kept = "keeps its bound" if agree(rows) else "DOES NOT keep its bound"
    title = "Largest error of dX in float16, relative to the largest value, by shape."
    return "\n".join([title, "", table(header, cells), "", f"Scratch {kept}."])


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
