"""The page of a training comparison: one HTML file that asks for nothing else.

The charts are inline SVG, stretched to the width of the page: their lines keep their
thickness (`vector-effect`) and their labels are HTML, so that a phone can read them.
Colours and line styles are classes; the template holds the CSS and the script.
"""

import json
from html import escape
from importlib import resources
from itertools import takewhile
from string import Template

import numpy as np
from matplotlib.ticker import MaxNLocator

from bn_from_scratch.compare import runs as facts
from bn_from_scratch.compare.runs import label
from bn_from_scratch.files import write_atomically
from bn_from_scratch.presentation.style import COLOURS, NAMES

WORDS = ["No", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight"]
WIDTH, HEIGHT = 2000, 1000  # of a chart, in units of its drawing


def html(results, path):
    """Write the page for results to path."""
    runs = results["runs"]
    kind, answer = verdict(results)
    loud = "<p class=loud role=note><strong>Not Fashion-MNIST.</strong> These runs saw "
    loud += f"{escape(results['data'])}.</p>"
    parts = {
        "kind": kind,
        "title": escape(answer.split(":")[0].rstrip(".")),
        "answer": escape(answer),
        "stand_in": loud if results["data"] != "Fashion-MNIST" else "",
        "facts": _facts(results),
        "colours": "".join(f".{name}{{--c:{c}}}" for name, c in COLOURS.items()),
        "losses": _losses(results),
        "differences": _differences(results),
        "marks": "Digits that the runs do not share are coloured." * (len(runs) > 1),
        "table": _table(results),
        "learned": _learned(runs, "gamma") + _learned(runs, "beta")
        or "<p>This network has no normalization.</p>",
        "settings": _settings(runs),
        "command": escape(results["command"]),
        "environment": _pairs(results["environment"]),
    }
    page = resources.files("bn_from_scratch.compare").joinpath("report.html")
    write_atomically(path, Template(page.read_text("utf-8")).substitute(parts))


def verdict(results):
    """Whether the runs "agree", "disagree" or are "alone", and the answer in words."""
    runs, agreement = results["runs"], results["agreement"]
    steps = facts.losses(runs).shape[1]
    within = f"in {steps:,} step{'s' * (steps > 1)}"
    most = _short(agreement["largest_loss_difference"])
    lost = facts.lost(runs)
    if lost:
        apart = len(runs) > 1 and not agreement["agree"]
        start = "The runs disagree. " if apart else ""
        return "disagree", f"{start}{lost}."
    if not agreement["agree"]:
        answer = f"The runs disagree, {' and '.join(_farthest(runs))} most: the losses "
        answer += f"differ by up to {most} {within}, where "
        return "disagree", f"{answer}{agreement['tolerance']:g} is allowed."
    if len(runs) == 1:
        answer = f"One run, {label(runs[0])}, and none to compare it with: its loss at "
        return "alone", f"{answer}step {steps:,} is {runs[0]['loss'][-1]:.3f}."
    backends = len({run["backend"] for run in runs})
    norms = len({run["norm"] for run in runs})
    of = f"{backends} framework{'s' * (backends > 1)}"
    if backends * norms == len(runs):
        of += f" × {norms} norm{'s' * (norms > 1)}"
    count = WORDS[len(runs)] if len(runs) < len(WORDS) else len(runs)
    answer = f"{count} runs, one curve: the losses of {of} never differ by more than "
    return "agree", f"{answer}{most} {within}."


def _farthest(runs):
    """The run or runs farthest from the median loss at any step.

    The largest difference from any other run does not tell who is wrong: when one run
    leaves, all of them are far from it.
    """
    table = facts.losses(runs)
    away = np.nanmax(np.abs(table - np.nanmedian(table, axis=0)), axis=1)
    far = away >= 0.99 * away.max()
    return [label(run) for run, chosen in zip(runs, far, strict=True) if chosen]


def _losses(results):
    """The losses as nested lines, in figures, and nine of the steps enlarged."""
    runs, far = results["runs"], facts.distances(results)
    table, steps = facts.losses(runs), far.steps
    said = f"Training loss of {len(runs)} run{'s' * (len(runs) > 1)}"
    page = f"<p>One of every {far.stride} steps is drawn.</p>" * (far.stride > 1)
    page += _lines("a", runs, table[:, steps - 1], steps, 1, said)
    page += _readout(runs, steps.tolist())
    if table.shape[1] < 20:
        return page
    near = np.arange(9) + table.shape[1] // 3 + 1
    page += f"<p class=note>Steps {near[0]} to {near[-1]}, enlarged:</p>"
    return page + _lines("b", runs, table[:, near - 1], near, 2.6, f"{said}, enlarged")


def _lines(key, runs, table, steps, width, alt):
    """Curves on one line, all to be seen, as in `figures.curves`."""
    low, high = _span(table)
    shapes, ours, cases, dashes = "", "", "", ""  # each above the one before
    for i, (run, ys) in enumerate(zip(runs, (table - low) / (high - low), strict=True)):
        shape, (k, count) = f"{key}{i}", facts.place(runs, run)
        shapes += f"<path id={shape} d='{_path(steps, ys)}'/>"
        if run["norm"] == "builtin":
            on, off = 5 * width, 5 * width * max(1, count - 1)
            dash = f"stroke-dasharray='{on} {off}' stroke-dashoffset={-on * k}"
            cases += _use(shape, "case", 1.6 * width)
            cases += _use(shape, f"{_class(run)} faint", 0.6 * width)
            dashes += _use(shape, _class(run), 1.2 * width, dash)
        else:
            thick = width * (2.8 + 1.5 * (count - 1 - k))
            ours += _use(shape, _class(run), thick if len(steps) > 1 else 2 * thick)
    y_ticks = [((y - low) / (high - low), f"{y:g}") for y in _ticks(low, high)]
    inside = f"<defs>{shapes}</defs>{ours}{cases}{dashes}"
    return _chart(alt, inside, y_ticks, _step_ticks(steps), len(steps))


def _differences(results):
    """The differences from one of the runs, on a logarithmic axis."""
    runs, tolerance = results["runs"], results["agreement"]["tolerance"]
    if len(runs) == 1:
        return "<p>One run: there is nothing to compare it with.</p>"
    far = facts.distances(results)
    top = 2 * max(tolerance, np.nanmax(far.values, initial=0))
    inside = ""

    def height(value):
        above = np.maximum(value, far.floor) / far.floor
        return np.log(above) / np.log(top / far.floor)

    for i, (run, values) in enumerate(zip(runs, far.values, strict=True)):
        if i != far.reference:
            path = _path(far.steps, height(values), dots=True)
            inside += f"<defs><path id=d{i} d='{path}'/></defs>"
            inside += _use(f"d{i}", _class(run), 6)
            inside += _use(f"d{i}", "case", 3) * (run["norm"] == "builtin")
    limit = HEIGHT * (1 - height(tolerance))
    inside += f"<path class=limit d='M0,{limit:.0f}H{WIDTH}'/>"
    decades = facts.decades(far.floor, top)[1:]
    y_ticks = [(height(y), f"10<sup>{np.log10(y):.0f}</sup>") for y in decades]
    said = escape(facts.said(far, runs))
    note = f"<p>{said}; 0 is drawn at the bottom, though this scale has no zero. The "
    note += f"dashed line is the tolerance, {tolerance:g}.</p>"
    x_ticks, points = _step_ticks(far.steps), len(far.steps)
    return note + _chart(said, inside, [(0, "0"), *y_ticks], x_ticks, points)


def _learned(runs, name):
    """gamma or beta of the first layer: bars side by side, and the numbers."""
    values = np.array([run[name] for run in runs], dtype=float)
    if not values.size:
        return ""
    values[~np.isfinite(values)] = np.nan
    low, high = _span(np.append(values, 0))
    bars, (count, channels) = "", values.shape
    for (k, channel), value in np.ndenumerate(values):
        if np.isfinite(value):
            x = WIDTH * (channel + 0.1 + 0.8 * k / count) / channels
            top, bottom = sorted(HEIGHT * (high - v) / (high - low) for v in (value, 0))
            bars += f"<rect class='{_class(runs[k])}' x={x:.0f} y={top:.0f} "
            bars += f"width={0.64 * WIDTH / count / channels:.0f} "
            bars += f"height={bottom - top:.0f} />"
    y_ticks = [((y - low) / (high - low), f"{y:g}") for y in _ticks(low, high)]
    x_ticks = [((k + 0.5) / channels, k + 1) for k in range(channels)]
    columns = [_marked([f"{v:.6f}" for v in column]) for column in values.T]
    cells = zip(*columns, strict=True)
    rows = [[_name(run), *row] for run, row in zip(runs, cells, strict=True)]
    apart = f": at most {_short(np.ptp(values, axis=0).max())} between two runs"
    return (
        f"<div><h3>{name}{apart if count > 1 else ''}</h3>"
        + _chart(f"{name} of each channel in each run", bars, y_ticks, x_ticks)
        + _grid(["channel", *range(1, channels + 1)], rows)
        + "</div>"
    )


def _table(results):
    runs, apart = results["runs"], results["agreement"]["loss_difference"]
    columns = [
        [_name(run) for run in runs],
        _marked([_digits(run["loss"][-1], run) for run in runs]),
        _marked([_digits(run["val_loss"], run) for run in runs]),
        [f"{run['val_accuracy']:.2%}" for run in runs],
        [f"{run['images_per_second']:,.0f}" for run in runs],
        [_short(apart[f"{run['backend']}/{run['norm']}"]) for run in runs],
    ]
    head = ["run", "last training loss", "validation loss", "accuracy", "images/s"]
    stored = [
        f"<p>Validation reads the moving averages, and in {escape(label(run))} "
        f"{escape(run['setting']['moving_var'])}.</p>"
        for run in runs
        if "moving_var" in run["setting"]
    ]
    return _grid([*head, "largest difference"], zip(*columns, strict=True)) + "".join(
        stored
    )


def _settings(runs):
    """What each built-in layer had to be told: our word, and theirs."""
    runs = [run for run in runs if run["norm"] == "builtin"]
    words = dict.fromkeys(word for run in runs for word in run["setting"])
    rows = [
        [escape(word), *(escape(str(run["setting"].get(word, "–"))) for run in runs)]
        for word in words
    ]
    if not rows:
        return "<p>No built-in layer with a translated setting was run.</p>"
    theirs = [escape(NAMES.get(run["backend"], run["backend"])) for run in runs]
    return _grid(["our word", *theirs], rows)


def _facts(results):
    images = "{epochs} × {train_samples:,} images, {batch_size} at a time"
    if results["accumulate"] > 1:
        images += " in {accumulate} micro-batches"
    facts = {"data": "{data}", "numbers": "{dtype}", "training": images}
    facts |= {"optimizer": "{optimizer}, learning rate {lr:g}", "seed": "{seed}"}
    facts |= {"validation": "{test_samples:,} images"}
    facts = {key: text.format(**results) for key, text in facts.items()}
    devices = dict.fromkeys(run["device"] for run in results["runs"])
    return _pairs(facts | {"device": ", ".join(devices)})


def _readout(runs, steps):
    """The losses in figures: the list, and what the script needs to fill it again."""
    table = [[_digits(run["loss"][k - 1], run) for k in steps] for run in runs]
    last = _marked([row[-1] for row in table])
    items = (
        f"<li>{_name(run)}<span>{value}</span></li>"
        for run, value in zip(runs, last, strict=True)
    )
    return (
        f"<p class=when>Step <b>{steps[-1]}</b><input type=range min=0 hidden "
        f"aria-label=step max={len(steps) - 1} value={len(steps) - 1}></p>"
        f"<ul class=readout>{''.join(items)}</ul><script type=application/json>"
        + json.dumps({"steps": steps, "loss": table}, separators=(",", ":"))
        + "</script>"
    )


def _chart(alt, inside, y_ticks, x_ticks, points=""):
    """A drawing of WIDTH x HEIGHT, its grid and labels: ticks are (in [0, 1], text)."""
    grid = "".join(f"M0,{HEIGHT * (1 - y):.0f}H{WIDTH}" for y, _ in y_ticks)
    labels = "".join(f"<i class=y style=top:{1 - y:.1%}>{t}</i>" for y, t in y_ticks)
    labels += "".join(f"<i class=x style=left:{x:.1%}>{t}</i>" for x, t in x_ticks)
    return (
        f"<div class=plot role=img aria-label='{escape(alt)}' data-points='{points}'>"
        f"<svg viewBox='0 0 {WIDTH} {HEIGHT}' preserveAspectRatio=none>"
        f"<path class=grid d='{grid}'/>{inside}</svg>{labels}</div>"
    )


def _ticks(low, high, count=5):
    """Round numbers from low to high."""
    values = MaxNLocator(count).tick_values(low, high)
    return [float(value) for value in values if low <= value <= high]


def _step_ticks(steps):
    ticks = [tick for tick in _ticks(steps[0], steps[-1]) if tick == int(tick)]
    return [(_across(tick, steps), f"{tick:.0f}") for tick in ticks]


def _use(shape, name, width, more=""):
    return f"<use href='#{shape}' class='{name}' stroke-width={width:.3g} {more} />"


def _path(steps, heights, dots=False):
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


def _span(values):
    """The range of an axis: the finite values and a little air."""
    finite = values[np.isfinite(values)]
    low, high = (finite.min(), finite.max()) if finite.size else (0, 1)
    air = 0.05 * (high - low) or 0.1
    return low - air, high + air


def _marked(texts):
    """The digits that all texts share, and the others marked."""
    places = zip(*texts, strict=False)
    same = len(list(takewhile(lambda digits: len(set(digits)) == 1, places)))
    return [f"{t[:same]}<mark>{t[same:]}</mark>" if t[same:] else t for t in texts]


def _digits(value, run):
    return f"{value:.{16 if run['dtype'] == 'float64' else 8}f}"


def _short(value):
    return f"{value:#.2g}" if value else "0"


def _class(run):
    backend = run["backend"] if run["backend"] in COLOURS else "other"
    return f"{backend} {'builtin' if run['norm'] == 'builtin' else 'ours'}"


def _name(run):
    return f"<span class='swatch {_class(run)}'></span>{escape(label(run))}"


def _pairs(pairs):
    items = (
        f"<div><dt>{escape(str(key))}</dt><dd>{escape(str(value))}</dd></div>"
        for key, value in pairs.items()
    )
    return f"<dl>{''.join(items)}</dl>"


def _grid(head, rows):
    """A table, in a box that scrolls; cells are HTML, the first of a row its name."""
    heads = "".join(f"<th scope=col>{cell}</th>" for cell in head)
    body = "".join(
        f"<tr><th scope=row>{first}</th>{''.join(f'<td>{c}</td>' for c in cells)}</tr>"
        for first, *cells in rows
    )
    return (
        "<div class=scroll role=region aria-label=table tabindex=0><table>"
        f"<thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div>"
    )
