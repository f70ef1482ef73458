"""The pictures of a comparison, as PNG files."""

import io
import os
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from bn_from_scratch.compare.runs import (
    Run,
    decades,
    distances,
    label,
    losses,
    lost,
    place,
    said,
)
from bn_from_scratch.files import write_atomically
from bn_from_scratch.presentation.style import (
    ALARM,
    COLOURS,
    MUTED,
    OTHER,
    STYLE,
)

DASHES: dict[str, Any] = {"builtin": (0, (4, 2)), "one-pass": (0, (1, 1.5))}
MARKERS = {"channels-first": "o", "channels-last": "s"}
WRONG = "wrong by more than its own standard deviation"
WITHIN = "grey: within the bound"
BESIDE: dict[str, Any] = {
    "textcoords": "offset points",
    "ha": "right",
    "va": "center",
    "fontsize": 13,
}


def curves(results: dict[str, Any], path: str | os.PathLike[str]) -> None:
    """Draw the losses of all runs, and their distances, as a PNG of 1600 x 900.

    A single run has no distances: its validation accuracy is drawn instead.
    """
    runs, table = results["runs"], losses(results["runs"])
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(16, 9), dpi=100, layout="constrained")
        top, bottom = figure.subplots(2, sharex=True, height_ratios=[3, 2])
        model = "BN-LeNet on {data}, {dtype}, batch {batch_size}".format(**results)
        count = f"{len(runs)} run{'s' * (len(runs) > 1)}"
        top.set_title(f"{model}: the loss of {count}", loc="left", pad=12)
        _nested(top, runs, table, 1.1 * min(1, 400 / table.shape[1]) ** 0.5)
        top.text(0.01, 0.03, lost(runs), transform=top.transAxes, color=ALARM)
        top.set_ylabel("training loss")
        if len(runs) > 1:
            _magnify(top, runs, table)
            _distances(bottom, results)
        else:
            _validation(bottom, runs[0])
        air = 0.02 * table.shape[1] + 0.5
        bottom.set(xlabel="step", xlim=(1 - air, table.shape[1] + air))
        figure.legend(
            handles=[_sample(run, "o") for run in runs],
            loc="outside lower center",
            ncols=min(4, len(runs)),
            frameon=False,
            handlelength=3,
        )
        _save(figure, path)


def _nested(axes: Axes, runs: list[Run], table: np.ndarray, width: float) -> None:
    """Curves on one line, all to be seen: ours solid, each thinner than the one below
    it; the built-ins dashed along its middle, each dash where the others have gaps."""
    steps = np.arange(1, table.shape[1] + 1)
    for run, loss in zip(runs, table, strict=True):
        k, count = place(runs, run)
        line: dict[str, Any] = {"color": COLOURS.get(run["backend"], OTHER)}
        if run["norm"] == "builtin":
            axes.plot(steps, loss, color="white", lw=1.6 * width, zorder=3)
            axes.plot(steps, loss, lw=0.4 * width, alpha=0.5, zorder=3.5, **line)
            line |= {"lw": 1.1 * width, "zorder": 4}
            line["ls"] = (4 * k, (4, 4 * max(1, count - 1)))
        else:
            line |= {"lw": width * (2.8 + 1.5 * (count - 1 - k)), "zorder": 2}
        if len(steps) == 1:
            line |= {"marker": "o", "ms": 30 - 3 * len(axes.lines), "mfc": "none"}
        axes.plot(steps, loss, solid_capstyle="round", **line)
        end = np.isfinite(loss).argmin()
        if end:  # the run was lost here; 0 if it never was, or from the start
            axes.plot(end, loss[end - 1], "X", color=line["color"], ms=12, zorder=5)


def _magnify(axes: Axes, runs: list[Run], table: np.ndarray) -> None:
    """A few steps enlarged, in the corner that a falling loss leaves free."""
    steps = table.shape[1]
    start = steps // 3
    window, beside = table[:, start : start + 9], table[:, int(0.4 * steps) :]
    if steps < 40 or not np.isfinite(window).any() or not np.isfinite(beside).any():
        return
    low, high = axes.get_ylim()
    if np.nanmax(beside) > low + 0.38 * (high - low):
        return  # the corner is not free
    zoom = axes.inset_axes((0.46, 0.42, 0.52, 0.5))
    _nested(zoom, runs, table, 3)
    low, high = np.nanmin(window), np.nanmax(window)
    margin = 0.15 * (high - low) or 0.1
    zoom.set(xlim=(start + 1, start + 9), ylim=(low - margin, high + margin))
    zoom.set_title("the nine steps in the frame, enlarged", fontsize=15, color=MUTED)
    zoom.tick_params(labelsize=13)
    zoom.spines[:].set_visible(True)
    frame = axes.indicate_inset_zoom(zoom, edgecolor=MUTED)
    for connector in frame.connectors or ():  # they would cross the curves
        connector.set_visible(False)


def _distances(axes: Axes, results: dict[str, Any]) -> None:
    runs, tolerance = results["runs"], results["agreement"]["tolerance"]
    far = distances(results)
    for k, (run, values) in enumerate(zip(runs, far.values, strict=True)):
        if k == far.reference:
            continue
        colour = COLOURS.get(run["backend"], OTHER)
        face = "white" if run["norm"] == "builtin" else colour
        shown = np.maximum(values, far.floor)
        axes.plot(far.steps, shown, color=colour, lw=0.8, alpha=0.3)
        axes.plot(far.steps, shown, "o", ms=4, mec=colour, mfc=face, mew=0.9)
    axes.axhline(tolerance, color=MUTED, lw=1, ls=(0, (6, 4)))
    right = {"transform": axes.get_yaxis_transform(), "ha": "right", "va": "top"}
    axes.text(0.995, tolerance * 0.8, f"tolerance {tolerance:g}", color=MUTED, **right)
    top = max(tolerance, np.nanmax(far.values, initial=far.floor)) * 3
    axes.set(yscale="log", ylim=(far.floor / 2, top), ylabel="difference")
    title = f"{said(far, runs)}; 0 is drawn at the lowest tick"
    axes.set_title(title, loc="left", fontsize=17)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_locator(FixedLocator(decades(far.floor, top)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: _power(y, far.floor)))


def _validation(axes: Axes, run: Run) -> None:
    """The accuracy after each epoch, for a run that has nothing to be compared with."""
    accuracies = run["val_accuracies"]
    ends = len(run["loss"]) * np.arange(1, len(accuracies) + 1) / len(accuracies)
    axes.plot(ends, accuracies, "o-", color=COLOURS.get(run["backend"], OTHER), lw=2.5)
    axes.set_ylabel("validation accuracy")
    last = f"after the last epoch: {accuracies[-1]:.4f}"
    axes.set_title(f"Accuracy in prediction mode; {last}", loc="left", fontsize=17)


def _power(value: float, floor: float) -> str:
    return "0" if value <= floor else f"$10^{{{round(np.log10(value))}}}$"


def _sample(run: Run, marker: str = "") -> Line2D:
    """A run in the legend."""
    ours, colour = run["norm"] == "scratch", COLOURS.get(run["backend"], OTHER)
    look = {"mfc": colour if ours else "white", "ls": DASHES.get(run["norm"], "-")}
    return Line2D([], [], color=colour, lw=3, marker=marker, label=label(run), **look)


def precision(results: dict[str, Any], path: str | os.PathLike[str]) -> None:
    """Draw the error of the output against the mean of the input, a panel per shape."""
    rows = results["rows"]
    means = sorted({row["mean"] for row in rows})
    shapes = list(dict.fromkeys(tuple(row["shape"]) for row in rows))
    errors = [row["error"] for row in rows] + [row["bound"] for row in rows]
    finite = [error for error in errors if np.isfinite(error) and error > 0]
    floor, top = min(finite) / 3, max(10, *finite) * 30
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(16, 9), dpi=100, layout="constrained")
        title = "How far the float32 output is from the float64 spec"
        title = f"{title}: {results['data']}"
        figure.suptitle(title, x=0.01, ha="left", fontsize=19)
        panels = figure.subplots(1, len(shapes), sharey=True, squeeze=False)[0]
        for axes, shape in zip(panels, shapes, strict=True):
            here = [row for row in rows if tuple(row["shape"]) == shape]
            _errors(axes, here, means, floor, top)
            axes.set_title(" × ".join(map(str, shape)), fontsize=17)
            axes.set_xlabel("mean of the input")
        panels[0].set(yscale="log", ylim=(floor, top))
        panels[0].text(-0.35, top / 1.5, WRONG, color=ALARM, va="top", fontsize=14)
        panels[0].text(len(means) - 1.05, floor * 1.3, WITHIN, ha="right", fontsize=14)
        panels[0].set_ylabel("largest error, in standard deviations of the output")
        first = {(row["backend"], row["norm"]): row for row in reversed(rows)}
        handles = [_sample(row) for row in reversed(first.values())]
        columns = 1 + len({backend for backend, _ in first})
        for memory in dict.fromkeys(row["memory"] for row in rows):
            mark: dict[str, Any] = {
                "marker": MARKERS.get(memory, "D"),
                "ls": "",
                "color": MUTED,
            }
            handles.append(Line2D([], [], label=memory, **mark))
        figure.legend(
            handles=handles, loc="outside lower center", ncols=columns, frameon=False
        )
        _save(figure, path)


def _errors(
    axes: Axes, rows: list[Run], means: list[float], floor: float, top: float
) -> None:
    """One panel: a curve per layer and memory order, the bound, and what is wrong."""
    x = {mean: k for k, mean in enumerate(means)}  # 0 has no place on a log axis
    bound = {row["mean"]: row["bound"] for row in rows}
    at = [x[mean] for mean in bound]
    axes.fill_between(at, floor, list(bound.values()), color="#e9ebee", zorder=0)
    axes.plot(at, list(bound.values()), color=MUTED, lw=1.5, zorder=1)
    axes.axhspan(1, top, color=ALARM, alpha=0.07, lw=0, zorder=0)
    layers = {(row["backend"], row["norm"], row["memory"]): [] for row in rows}
    for row in rows:
        layers[row["backend"], row["norm"], row["memory"]].append(row)
    for k, ((backend, norm, memory), points) in enumerate(layers.items()):
        points.sort(key=lambda row: row["mean"])
        shift = 0.24 * ((k + 0.5) / len(layers) - 0.5)  # equal errors stay visible
        xs = np.array([x[row["mean"]] + shift for row in points])
        ys = np.array([row["error"] for row in points], dtype=float)
        colour, ours = COLOURS.get(backend, OTHER), norm == "scratch"
        line = {"color": colour, "lw": 2.2 if ours else 1.6, "zorder": 3 if ours else 2}
        line |= {"ls": DASHES.get(norm, "-"), "mfc": colour if ours else "white"}
        marker = MARKERS.get(memory, "D")
        axes.plot(xs, np.maximum(ys, floor), marker=marker, ms=7, **line)
        lost = ~np.isfinite(ys)
        wrong = lost | (ys > 1)
        ys = np.where(lost, top / 3, ys)
        axes.plot(xs[lost], ys[lost], "X", color=colour, ms=11, zorder=4)
        axes.plot(xs[wrong], ys[wrong], "o", ms=18, mec=ALARM, mfc="none", mew=1.5)
        for value, where in zip(ys[lost], xs[lost], strict=True):
            axes.annotate("no number", (where, value), (-12, 0), **BESIDE)
    axes.set_xticks(range(len(means)), [f"{mean:g}" for mean in means])
    axes.set_xlim(-0.4, len(means) - 0.6)


def _save(figure: Figure, path: str | os.PathLike[str]) -> None:
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)
    write_atomically(path, buffer.getvalue())
