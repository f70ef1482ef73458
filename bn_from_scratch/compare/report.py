"""The page of a training comparison: its answer in words, its tables, its charts.

What stands in the page is prepared here, as data; the page itself is
`presentation/templates/training.html`.
"""

from collections.abc import Iterable
from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bn_from_scratch.compare import charts
from bn_from_scratch.compare.runs import (
    Results,
    Run,
    distances,
    label,
    losses,
    lost,
)
from bn_from_scratch.presentation import pages
from bn_from_scratch.presentation.style import COLOURS, NAMES, OTHER

WORDS = ["No", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight"]


class Digits(NamedTuple):
    """A number: the digits that all runs share, and its others."""

    same: str
    rest: str


def html(results: Results, path: str | Path) -> None:
    """Write the page for results to path."""
    runs = results["runs"]
    kind, answer = verdict(results)
    learned = [_learned(runs, name) for name in ("gamma", "beta")]
    pages.write(
        "training.html",
        path,
        kind=kind,
        title=answer.split(":")[0].rstrip("."),
        answer=answer,
        stand_in=results["data"] if results["data"] != "Fashion-MNIST" else "",
        colours=COLOURS | {"other": OTHER},
        facts=_facts(results),
        runs=_rows(results),
        tolerance=f"{results['agreement']['tolerance']:g}",
        **_charts(results),
        learned=list(filter(None, learned)),
        settings=_settings(runs),
        command=results["command"],
        environment=results["environment"],
    )


def verdict(results: Results) -> tuple[str, str]:
    """Whether the runs "agree", "disagree" or are "alone", and the answer in words."""
    runs, agreement = results["runs"], results["agreement"]
    steps = losses(runs).shape[1]
    within = f"in {steps:,} step{'s' * (steps > 1)}"
    most = _short(agreement["largest_loss_difference"])
    first_lost = lost(runs)
    if first_lost:
        apart = len(runs) > 1 and not agreement["agree"]
        start = "The runs disagree. " if apart else ""
        return "disagree", f"{start}{first_lost}."
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


def _farthest(runs: list[Run]) -> list[str]:
    """The run or runs farthest from the median loss at any step.

    The largest difference from any other run does not tell who is wrong: when one run
    leaves, all of them are far from it.
    """
    table = losses(runs)
    away = np.nanmax(np.abs(table - np.nanmedian(table, axis=0)), axis=1)
    far = away >= 0.99 * away.max()
    return [label(run) for run, chosen in zip(runs, far, strict=True) if chosen]


def _facts(results: Results) -> dict[str, str]:
    images = "{epochs} × {train_samples:,} images, {batch_size} at a time"
    if results["accumulate"] > 1:
        images += " in {accumulate} micro-batches"
    facts = {"data": "{data}", "numbers": "{dtype}", "training": images}
    facts |= {"optimizer": "{optimizer}, learning rate {lr:g}", "seed": "{seed}"}
    facts |= {"validation": "{test_samples:,} images"}
    facts = {key: text.format(**results) for key, text in facts.items()}
    devices = dict.fromkeys(run["device"] for run in results["runs"])
    return facts | {"device": ", ".join(devices)}


def _rows(results: Results) -> list[dict[str, Any]]:
    """The name and the look of each run, and its numbers."""
    runs, apart = results["runs"], results["agreement"]["loss_difference"]
    last = _shared(_digits(run["loss"][-1], run) for run in runs)
    validation = _shared(_digits(run["val_loss"], run) for run in runs)
    return [
        _named(run)
        | {
            "loss": loss,
            "val_loss": val_loss,
            "accuracy": f"{run['val_accuracy']:.2%}",
            "speed": f"{run['images_per_second']:,.0f}",
            "apart": _short(apart[f"{run['backend']}/{run['norm']}"]),
            "moving_var": run["setting"].get("moving_var"),
        }
        for run, loss, val_loss in zip(runs, last, validation, strict=True)
    ]


def _charts(results: Results) -> dict[str, Any]:
    """The losses, also in figures; nine of the steps enlarged; the differences."""
    runs, far = results["runs"], distances(results)
    table, steps = losses(runs), far.steps
    said = f"Training loss of {len(runs)} run{'s' * (len(runs) > 1)}"
    parts: dict[str, Any] = {"enlarged": None, "differences": None}
    parts["losses"] = {
        "stride": far.stride,
        "chart": charts.losses("a", runs, table[:, steps - 1], steps, 1, said),
        "steps": steps.tolist(),
        "figures": [[_digits(run["loss"][k - 1], run) for k in steps] for run in runs],
    }
    if table.shape[1] >= 20:
        near = np.arange(9) + table.shape[1] // 3 + 1
        said += ", enlarged"
        chart = charts.losses("b", runs, table[:, near - 1], near, 2.6, said)
        parts["enlarged"] = {"first": near[0], "last": near[-1], "chart": chart}
    if len(runs) > 1:
        tolerance = results["agreement"]["tolerance"]
        parts["differences"] = charts.differences(runs, far, tolerance)
    return parts


def _learned(runs: list[Run], name: str) -> dict[str, Any] | None:
    """gamma or beta of the first layer: bars side by side, and the numbers."""
    values = np.array([run[name] for run in runs], dtype=float)
    if not values.size:
        return None
    values[~np.isfinite(values)] = np.nan
    columns = [_shared(f"{v:.6f}" for v in column) for column in values.T]
    cells = zip(*columns, strict=True)
    apart = _short(np.ptp(values, axis=0).max()) if len(runs) > 1 else ""
    return {
        "name": name,
        "apart": apart,
        "chart": charts.channels(runs, values, f"{name} of each channel in each run"),
        "channels": list(range(1, values.shape[1] + 1)),
        "rows": [(_named(run), row) for run, row in zip(runs, cells, strict=True)],
    }


def _settings(runs: list[Run]) -> dict[str, Any]:
    """What each built-in layer had to be told: our word, and theirs."""
    runs = [run for run in runs if run["norm"] == "builtin"]
    words = dict.fromkeys(word for run in runs for word in run["setting"])
    return {
        "frameworks": [NAMES.get(run["backend"], run["backend"]) for run in runs],
        "rows": {
            word: [run["setting"].get(word, "–") for run in runs] for word in words
        },
    }


def _named(run: Run) -> dict[str, Any]:
    return {"name": label(run), "look": charts.look(run)}


def _shared(texts: Iterable[str]) -> list[Digits]:
    """The digits that all texts share, apart from the others."""
    texts = list(texts)
    places = zip(*texts, strict=False)
    same = len(list(takewhile(lambda digits: len(set(digits)) == 1, places)))
    return [Digits(text[:same], text[same:]) for text in texts]


def _digits(value: float, run: Run) -> str:
    return f"{value:.{16 if run['dtype'] == 'float64' else 8}f}"


def _short(value: float) -> str:
    return f"{value:#.2g}" if value else "0"
