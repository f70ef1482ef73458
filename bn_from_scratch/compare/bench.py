"""`bn bench`: forward and backward of ours, plain and fused, against the built-in.

Timings on a shared machine are noisy: the contenders take turns in one process, and
what is reported are medians, and medians of the ratios within a turn.
"""

import gc
import math
import os
import statistics
import time
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import numpy as np

from bn_from_scratch import backends
from bn_from_scratch.backends.norms import norm_layer
from bn_from_scratch.presentation.table import table

SHAPES = ((128, 6, 24, 24), (128, 16, 8, 8), (64, 64, 56, 56), (32, 256, 28, 28))
NORMS = ("scratch", "fused", "builtin")
GROWTH = (1, 2, 4, 8)  # times the examples of the second shape
SAMPLE_SECONDS = 0.02  # a short step is repeated until it takes this long
ROUNDS = 9
HELD = 6  # forward passes whose results are held at once

Row = dict[str, Any]
Shape = tuple[int, ...]


def compare_speed(
    names: Sequence[str],
    shapes: Sequence[Shape] = SHAPES,
    growth: Sequence[int] = GROWTH,
    rounds: int = ROUNDS,
    progress: Callable[[str], None] = lambda text: None,
) -> dict[str, list[Row]]:
    """Three lists of rows: times of each shape, of growing batches, and bytes kept.

    The batch of the second shape grows; the bytes are those of the largest shape, for
    large arrays come from the system, and go back to it.
    """
    second, largest = shapes[1], max(shapes, key=math.prod)
    results: dict[str, list[Row]] = {"speed": [], "growth": [], "kept": []}
    for name in names:
        bn = backends.load(name)
        for shape in shapes:
            progress(f"{name}, shape {shape}")
            row = {"backend": name, "shape": list(shape)}
            results["speed"].append(row | timings(bn, shape, rounds))
        N, *rest = second
        for times in growth:
            progress(f"{name}, {times} times {second}")
            row = {"backend": name, "times": times}
            results["growth"].append(row | timings(bn, (times * N, *rest), rounds))
        progress(f"{name}, bytes kept for backward")
        kept = {norm: kept_for_backward(bn, norm, largest) for norm in NORMS}
        results["kept"].append({"backend": name, "shape": list(largest)} | kept)
    return results


def make_step(
    bn: ModuleType, norm: str, shape: Shape
) -> tuple[Callable[[], Any], Callable[[], None]]:
    """(forward, step) of a float32 layer on standard normal numbers."""
    X, dY = np.random.default_rng(0).normal(size=(2, *shape)).astype(np.float32)
    return bn.prepare(norm_layer(bn, norm)(shape[1], len(shape)), X, dY)


def timings(bn: ModuleType, shape: Shape, rounds: int) -> dict[str, float]:
    """Median milliseconds of each norm, and median ratios to the built-in."""
    steps = {norm: make_step(bn, norm, shape)[1] for norm in NORMS}
    repeats = {norm: repetitions(step) for norm, step in steps.items()}
    samples = {norm: [] for norm in NORMS}
    for _ in range(rounds):
        for norm, step in steps.items():
            samples[norm].append(seconds(step, repeats[norm]))
    found = {norm: 1e3 * statistics.median(samples[norm]) for norm in NORMS}
    for norm in NORMS[:2]:
        pairs = zip(samples[norm], samples["builtin"], strict=True)
        found[f"{norm}/builtin"] = statistics.median(
            own / theirs for own, theirs in pairs
        )
    return found


def seconds(step: Callable[[], None], repeats: int) -> float:
    start = time.perf_counter()
    for _ in range(repeats):
        step()
    return (time.perf_counter() - start) / repeats


def repetitions(step: Callable[[], None]) -> int:
    """How often to repeat a step in one sample; compiles and warms it up."""
    step()
    step()
    return max(1, round(SAMPLE_SECONDS / seconds(step, 1)))


def kept_for_backward(bn: ModuleType, norm: str, shape: Shape) -> int | None:
    """Bytes that a forward pass leaves for backward, besides X and Y.

    Measured as the growth of the process's resident memory, while the results of
    several passes are held; None where the system does not tell it.
    """
    forward, _ = make_step(bn, norm, shape)
    held, before, growth = [], None, []
    for _ in range(HELD):  # the first fill what the allocator had put by
        held.append(forward())
        gc.collect()
        now = resident_bytes()
        growth.append(None if before is None or now is None else now - before)
        before = now
    if growth[-1] is None:
        return None
    return max(0, growth[-1] - 4 * math.prod(shape))


def resident_bytes() -> int | None:
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return None


def render(results: dict[str, list[Row]]) -> str:
    """Three tables, and how to read them."""
    second, largest = results["speed"][1]["shape"], results["kept"][0]["shape"]
    titles = ["plain", "fused", "built-in"]
    ratios = ["plain/built-in", "fused/built-in"]
    lines = ["Forward + backward in training, float32; medians, milliseconds.", ""]
    rows = [
        [row["backend"], _shape(row["shape"]), *_figures(row)]
        for row in results["speed"]
    ]
    lines += [table(["backend", "shape", *titles, *ratios], rows), ""]
    lines += [f"Growth with the number of examples, from {_shape(second)}.", ""]
    rows = [
        [row["backend"], f"{row['times']}x", *_figures(row)]
        for row in results["growth"]
    ]
    lines += [table(["backend", "examples", *titles, *ratios], rows), ""]
    lines += [
        f"Memory kept for backward besides X and Y, in sizes of X, {_shape(largest)}.",
        "",
    ]
    size = 4 * math.prod(largest)
    rows = [
        [row["backend"], *(_times(row[norm], size) for norm in NORMS)]
        for row in results["kept"]
    ]
    lines += [table(["backend", *titles], rows)]
    return "\n".join(lines)


def _shape(shape: Sequence[int]) -> str:
    return f"({', '.join(map(str, shape))})"


def _figures(row: Row) -> list[str]:
    ratios = (f"{row[f'{norm}/builtin']:.2f}" for norm in NORMS[:2])
    return [*(f"{row[norm]:.2f}" for norm in NORMS), *ratios]


def _times(kept: int | None, size: int) -> str:
    return "?" if kept is None else f"{kept / size:.2f}"
