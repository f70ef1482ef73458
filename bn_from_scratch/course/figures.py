"""The look of the notebooks' pictures, and the two kinds that come back."""

from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from cycler import cycler
from matplotlib.axes import Axes

from bn_from_scratch.presentation.style import COLOURS, NAMES, OTHER

# Okabe and Ito's palette, safe for the colour-blind; the frameworks' own come first.
CYCLE = [*COLOURS.values(), "#e69f00", "#56b4e9", OTHER]
STYLE: dict[Any, Any] = {
    "figure.figsize": (6.4, 3.2),
    "figure.dpi": 100,
    "figure.constrained_layout.use": True,
    "savefig.facecolor": "white",
    "axes.prop_cycle": cycler(color=CYCLE),
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "axes.axisbelow": True,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
}


def style() -> None:
    """Give every figure of the notebook the look of the course."""
    plt.rcParams.update(STYLE)


def framework(name: str) -> dict[str, str]:
    """How the curves of a framework are drawn: `ax.plot(loss, **framework("jax"))`."""
    return {"color": COLOURS[name], "label": NAMES[name]}


def smooth(values: Any, window: int = 20) -> np.ndarray:
    """The mean of the last `window` values, at every point.  [T] -> [T]."""
    sums = np.cumsum(np.concatenate([[0.0], values]))
    last = np.arange(1, len(sums))
    first = np.maximum(last - window, 0)
    return (sums[last] - sums[first]) / (last - first)


def curves(
    losses: Mapping[str, Any],
    ax: Axes | None = None,
    window: int = 20,
    ylabel: str = "training loss",
) -> Axes:
    """Smoothed curves of {label: losses per step}; returns the axes."""
    ax = ax or plt.figure().subplots()
    for label, loss in losses.items():
        ax.plot(np.arange(1, len(loss) + 1), smooth(loss, window), label=label)
    ax.set(xlabel="step", ylabel=ylabel)
    ax.legend()
    return ax
