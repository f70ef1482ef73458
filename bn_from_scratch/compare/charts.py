"""The charts of the training page, as data: paths, strokes, bars and ticks.

`presentation/templates/charts.html` draws them as SVG, stretched to the width of the
page: lines keep their thickness, and the ticks are text that a phone can read. Colours
and the look of lines are classes.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import ClassVar, NamedTuple

import numpy as np
from matplotlib.ticker import MaxNLocator

from bn_from_scratch.compare.runs import (
    Distances,
    Run,
    decades,
    place,
    said,
)
from bn_from_scratch.presentation.style import COLOURS

WIDTH, HEIGHT = 2000, 1000  # of a chart, in units of its drawing


class Tick(NamedTuple):
    """A number beside an axis.

    >>> Tick(at=0.5, text="10", power="-3")
    Tick(at=0.5, text='10', power='-3')
    """

    at: float  # its place between the ends of the axis, in [0, 1]
    text: str
    power: str = ""  # stands behind the text, raised


class Stroke(NamedTuple):
    """A line along a curve.

    >>> Stroke("loss0", "torch builtin", width=2.4, dashes=(10, 5)).offset
    0
    """

    curve: str  # the name of the curve
    look: str  # classes
    width: float
    dashes: tuple[float, float] | None = None  # lengths of a dash and of a gap
    offset: float = 0  # where the first dash begins, backwards


class Bar(NamedTuple):
    """A rectangle, in units of the drawing.

    >>> Bar("torch ours", x=0, y=400, width=100, height=HEIGHT - 400).height
    600
    """

    look: str  # classes
    x: int
    y: int
    width: int
    height: int


@dataclasses.dataclass(frozen=True)
class Chart:
    """A drawing of WIDTH x HEIGHT, its grid and its ticks.

    >>> Chart("the loss falls", [Tick(0.0, "1"), Tick(1.0, "2")], []).grid
    'M0,1000H2000M0,0H2000'
    """

    alt: str  # what it shows, in words
    y_ticks: Sequence[Tick]
    x_ticks: Sequence[Tick]
    points: int | str = ""  # of each curve, if the script may walk along them
    curves: dict[str, str] = dataclasses.field(default_factory=dict)  # name: path
    strokes: Sequence[Stroke] = ()  # each above the one before
    bars: Sequence[Bar] = ()
    limit: str = ""  # the path of the tolerance
    WIDTH: ClassVar[int] = WIDTH
    HEIGHT: ClassVar[int] = HEIGHT

    @property
    def grid(self) -> str:
        """The path of a line at each tick of the vertical axis."""
        return "".join(_level(tick.at) for tick in self.y_ticks)


def look(run: Run) -> str:
    """The classes of a run: its framework's colour, ours or built-in."""
    backend = run["backend"] if run["backend"] in COLOURS else "other"
    return f"{backend} {'builtin' if run['norm'] == 'builtin' else 'ours'}"


def losses(
    key: str,
    runs: list[Run],
    table: np.ndarray,
    steps: np.ndarray,
    width: float,
    alt: str,
) -> Chart:
    """Curves on one line, all to be seen, as in `figures.curves`.

    table [runs, points]: the losses after these steps [points]; key: begins the names
    of the curves; width: of a thin line.
    """
    low, high = _span(table)
    curves, ours, cases, dashed = {}, [], [], []
    for i, (run, ys) in enumerate(zip(runs, (table - low) / (high - low), strict=True)):
        curve, (k, count) = f"{key}{i}", place(runs, run)
        curves[curve] = _path(steps, ys)
        if run["norm"] == "builtin":
            on, off = 5 * width, 5 * width * max(1, count - 1)
            cases.append(Stroke(curve, "case", 1.6 * width))
            cases.append(Stroke(curve, f"{look(run)} faint", 0.6 * width))
            dashed.append(Stroke(curve, look(run), 1.2 * width, (on, off), -on * k))
        else:
            thick = width * (2.8 + 1.5 * (count - 1 - k))
            thick = thick if len(steps) > 1 else 2 * thick
            ours.append(Stroke(curve, look(run), thick))
    return Chart(
        alt,
        _numbers(low, high),
        _step_ticks(steps),
        points=len(steps),
        curves=curves,
        strokes=ours + cases + dashed,
    )


def differences(runs: list[Run], far: Distances, tolerance: float) -> Chart:
    """The distances from one of the runs as dots, on a logarithmic axis."""
    top = 2 * max(tolerance, np.nanmax(far.values, initial=0))
    curves, strokes = {}, []

    def height(value):
        above = np.maximum(value, far.floor) / far.floor
        return np.log(above) / np.log(top / far.floor)

    for i, (run, values) in enumerate(zip(runs, far.values, strict=True)):
        if i != far.reference:
            curves[f"d{i}"] = _path(far.steps, height(values), dots=True)
            strokes.append(Stroke(f"d{i}", look(run), 6))
            if run["norm"] == "builtin":
                strokes.append(Stroke(f"d{i}", "case", 3))
    powers = [
        Tick(height(value), "10", f"{np.log10(value):.0f}")
        for value in decades(far.floor, top)[1:]
    ]
    return Chart(
        said(far, runs),
        [Tick(0, "0"), *powers],
        _step_ticks(far.steps),
        points=len(far.steps),
        curves=curves,
        strokes=strokes,
        limit=_level(height(tolerance)),
    )


def channels(runs: list[Run], values: np.ndarray, alt: str) -> Chart:
    """A bar for each run in each channel, side by side; values [runs, channels]."""
    low, high = _span(np.append(values, 0))
    bars, (count, number) = [], values.shape
    for (k, channel), value in np.ndenumerate(values):
        if np.isfinite(value):
            x = WIDTH * (channel + 0.1 + 0.8 * k / count) / number
            top, bottom = sorted(HEIGHT * (high - v) / (high - low) for v in (value, 0))
            size = round(0.64 * WIDTH / count / number), round(bottom - top)
            bars.append(Bar(look(runs[k]), round(x), round(top), *size))
    x_ticks = [Tick((k + 0.5) / number, str(k + 1)) for k in range(number)]
    return Chart(alt, _numbers(low, high), x_ticks, bars=bars)


def _numbers(low: float, high: float) -> list[Tick]:
    """Ticks at round numbers from low to high."""
    return [Tick((y - low) / (high - low), f"{y:g}") for y in _round(low, high)]


def _step_ticks(steps: np.ndarray) -> list[Tick]:
    whole = [tick for tick in _round(steps[0], steps[-1]) if tick == int(tick)]
    return [Tick(_across(tick, steps), f"{tick:.0f}") for tick in whole]


def _round(low: float, high: float) -> list[float]:
    """About five round numbers from low to high."""
    values = MaxNLocator(5).tick_values(low, high)
    return [float(value) for value in values if low <= value <= high]


def _level(height: float) -> str:
    """The path of a line across the chart, at a height in [0, 1]."""
    return f"M0,{HEIGHT * (1 - height):.0f}H{WIDTH}"


def _path(steps: np.ndarray, heights: Iterable[float], dots: bool = False) -> str:
    """A line, or dots, through the heights in [0, 1]; NaN leaves a gap."""
    path, pen = "", False
    for x, y in zip(_across(steps, steps), heights, strict=True):
        if np.isfinite(y):
            point = f"{WIDTH * x:.0f},{HEIGHT * (1 - y):.0f} "
            # A line of no length with round ends is a dot.
            path += point if pen and not dots else f"M{point}{point}"
        pen = np.isfinite(y)
    return path


def _across(step, steps):
    """Where a step is between the first and the last, in [0, 1]."""
    if steps[0] == steps[-1]:
        return 0.5 + 0 * step
    return (step - steps[0]) / (steps[-1] - steps[0])


def _span(values: np.ndarray) -> tuple[float, float]:
    """The range of an axis: the finite values and a little air."""
    finite = values[np.isfinite(values)]
    low, high = (finite.min(), finite.max()) if finite.size else (0, 1)
    air = 0.05 * (high - low) or 0.1
    return low - air, high + air
