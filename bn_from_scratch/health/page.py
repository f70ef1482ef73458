"""The page of an examination: one HTML file with pictures that needs nothing else."""

import io
from html import escape
from importlib import resources
from string import Template

import matplotlib
import numpy as np
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from bn_from_scratch import spec
from bn_from_scratch.files import write_atomically
from bn_from_scratch.presentation.style import ALARM, COLOURS, STYLE

LINE = COLOURS["tensorflow"]


def html(health, path):
    """Write the page for a Health to path."""
    text = resources.files("bn_from_scratch.health").joinpath("page.html")
    parts = {
        "model": escape(health.model),
        "verdict": verdict(health),
        "rows": "".join(map(_summary, health.rows)),
        "layers": "".join(map(_section, health.rows)),
    }
    write_atomically(path, Template(text.read_text("utf-8")).substitute(parts))


def verdict(health):
    """The state of the whole model in a sentence."""
    unwell, count = sum(bool(row.symptoms) for row in health.rows), len(health.rows)
    layers = f"{count} batch norm" + "s" * (count != 1)
    return f"{unwell} of {layers} with symptoms" if unwell else f"{layers}, all well"


def _summary(row):
    name, *cells = row.cells
    link = f'<a href="#{escape(name)}">{escape(name)}</a>'
    mark = ' class="unwell"' if row.symptoms else ""
    return f"<tr{mark}><td>{link}" + "".join(f"<td>{escape(str(c))}" for c in cells)


def _section(row):
    found = "".join(
        f"<li><strong>{escape(s.name)}</strong>: {escape(text)}. {escape(s.advice)}"
        for s, text in row.symptoms
    )
    name = escape(row.description.name)
    body = f"<ul>{found}</ul>" if found else "<p>Well.</p>"
    return f'<section id="{name}"><h2>{name}</h2>{body}{picture(row)}</section>'


def picture(row):
    """An SVG of a layer's channels, in the order of their variance; "" without any."""
    state = row.description.state
    shown = {k: v for k, v in state.items() if np.isfinite(v).all() and v.size > 1}
    if not shown:
        return ""
    order = np.argsort(shown.get("moving_var", next(iter(shown.values()))))
    with matplotlib.rc_context(STYLE | {"font.size": 12, "axes.titlesize": 13}):
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


def _inline(figure, name):
    """A figure as an <svg> element; its ids are its own, so that pages hold many."""
    file = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": name, "svg.fonttype": "path"}):
        FigureCanvasSVG(figure).print_svg(file, metadata={"Date": None})
    svg = file.getvalue()
    alt = f'<svg role="img" aria-label="parameters and statistics of {escape(name)}"'
    return svg[svg.index("<svg") :].replace("<svg", alt, 1)
