"""Facts about the runs of a comparison that its picture and its page share."""

from typing import Any, NamedTuple, TypeAlias

import numpy as np

from bn_from_scratch.presentation.style import NAMES

Results: TypeAlias = dict[str, Any]  # what `compare_training` returns
Run: TypeAlias = dict[str, Any]  # an entry of results["runs"]


def label(run: Run) -> str:
    """The name of a run for a reader: `PyTorch scratch`, `JAX built-in`."""
    words = {"builtin": "built-in", "one-pass": "built-in, one-pass"}
    norm = words.get(run["norm"], run["norm"])
    return f"{NAMES.get(run['backend'], run['backend'])} {norm}"


def losses(runs: list[Run]) -> np.ndarray:
    """The losses of all runs [runs, steps]; NaN where a run has no such step."""
    table = np.full((len(runs), max(len(run["loss"]) for run in runs)), np.nan)
    for row, run in zip(table, runs, strict=True):
        row[: len(run["loss"])] = run["loss"]
    return np.where(np.isfinite(table), table, np.nan)


class Distances(NamedTuple):
    """How far each run is from a reference run, ready for a logarithmic axis.

    >>> runs = [{"loss": [2.0, 1.5]}, {"loss": [2.0, 1.25]}]
    >>> distances({"runs": runs, "agreement": {"tolerance": 1e-3}}).values.tolist()
    [[0.0, 0.0], [0.0, 0.25]]
    """

    values: np.ndarray  # [runs, points], the largest in each stretch of steps
    steps: np.ndarray  # [points], the last step of each stretch, counted from 1
    stride: int  # steps in a stretch
    reference: int  # the first run that stayed finite
    floor: float  # where 0 is drawn: a power of ten below all other values


def distances(results: Results, most: int = 400) -> Distances:
    """The distances of all runs, in at most `most` points."""
    table = losses(results["runs"])
    reference = int(np.argmax(np.isfinite(table).all(axis=1)))
    values = np.abs(table - table[reference])
    stride = -(-table.shape[1] // most)
    ends = np.arange((table.shape[1] - 1) % stride, table.shape[1], stride)
    values = np.fmax.reduceat(values, np.maximum(ends - stride + 1, 0), axis=1)
    least = min([results["agreement"]["tolerance"], *values[values > 0]])
    floor = 10 ** np.floor(np.log10(least) - 0.3)
    return Distances(values, ends + 1, stride, reference, floor)


def said(far: Distances, runs: list[Run]) -> str:
    """What a picture of the distances shows, in words."""
    stretch = f", the largest of every {far.stride} steps" if far.stride > 1 else ""
    return f"Absolute difference from the loss of {label(runs[far.reference])}{stretch}"


def lost(runs: list[Run]) -> str:
    """Which loss is first NaN or infinite, and at which step, in words; else ""."""
    finite = [np.isfinite(run["loss"]) for run in runs]
    first = {
        label(run): int(ok.argmin()) + 1
        for run, ok in zip(runs, finite, strict=True)
        if not ok.all()
    }
    if not first:
        return ""
    name = min(first, key=first.__getitem__)
    words = f"The loss of {name} is not finite at step {first[name]}"
    return words + f", and {len(first)} of {len(runs)} are lost" * (len(first) > 1)


def place(runs: list[Run], run: Run) -> tuple[int, int]:
    """The position of a run among those with the same norm, and their number."""
    peers = [other for other in runs if other["norm"] == run["norm"]]
    return peers.index(run), len(peers)


def decades(floor: float, top: float) -> list[float]:
    """At most about six powers of ten from floor, which is one, up to top."""
    low, high = round(np.log10(floor)), int(np.floor(np.log10(top)))
    return [10.0**k for k in range(low, high + 1, max(1, -(-(high - low) // 6)))]
