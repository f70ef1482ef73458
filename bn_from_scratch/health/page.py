"""The page of an examination: what was seen of each layer, and a picture of it.

What stands in the page is prepared here, as data; the page itself is
`presentation/templates/health.html`.
"""

import io
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from bn_from_scratch import spec
from bn_from_scratch.health.report import Health, Row
from bn_from_scratch.presentation import pages
from bn_from_scratch.presentation.style import ALARM, COLOURS, STYLE

LINE = COLOURS["tensorflow"]


def html(health: Health, path: str | Path) -> None:
    """Write the page for a Health to path."""
    pages.write(
        "health.html",
        path,
        model=health.model,
        verdict=verdict(health),
        notes=health.notes,
        layers=[_layer(row) for row in health.rows],
    )


def verdict(health: Health) -> str:
    """The state of the whole model in a sentence."""
    unwell, count = sum(bool(row.symptoms) for row in health.rows), len(health.rows)
    layers = f"{count} batch norm" + "s" * (count != 1)
    return f"{unwell} of {layers} with symptoms" if unwell else f"{layers}, all well"


def _layer(row: Row) -> dict[str, Any]:
    name, *cells = row.cells
    return {
        "name": name,
        "cells": cells,
        "symptoms": row.symptoms,
        "picture": picture(row),
    }


def picture(row: Row) -> Markup:
    """An SVG of a layer's channels, in the order of their variance; "" without any."""
    state = row.description.state
    shown = {k: v for k, v in state.items() if np.isfinite(v).all() and v.size > 1}
    if not shown:
        return Markup()
    order = np.argsort(shown.get("moving_var", next(iter(shown.values()))))
    style: dict[Any, Any] = STYLE | {"font.size": 12, "axes.titlesize": 13}
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(11, 2.6), layout="constrained")
        axes = figure.subplots(1, len(shown), squeeze=False)[0]
        for ax, (name, v) in zip(axes, shown.items(), strict=True):
            ax.plot(np.arange(v.size), v[order], ".", color=LINE)
            ax.set(title=name, xlabel="channel, by variance")
            eps = row.description.settings["eps"]
            if name == "moving_var" and (v > 0).all():
                ax.set_yscale("log")
                ax.axhline(eps or spec.EPS, color=ALARM, lw=1, ls=":", label="eps")
                ax.legend(frameon=False)
        return _inline(figure, row.description.name)


def _inline(figure: Figure, name: str) -> Markup:
    """A figure as an <svg> element; its ids are its own, so that pages hold many."""
    file = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": name, "svg.fonttype": "path"}):
        FigureCanvasSVG(figure).print_svg(file, metadata={"Date": None})
    svg = file.getvalue()
    return Markup(svg[svg.index("<svg") :])
