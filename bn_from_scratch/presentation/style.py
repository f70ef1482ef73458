"""The style of every picture: names and colours of the frameworks, ink, fonts."""

from typing import Any

NAMES = {"torch": "PyTorch", "tensorflow": "TensorFlow", "jax": "JAX", "mxnet": "MXNet"}
# From Okabe and Ito's palette, safe for colour-blind readers; these four also keep a
# contrast of 3:1 on the page's light and on its dark background.
COLOURS = {
    "torch": "#d55e00",
    "tensorflow": "#0072b2",
    "jax": "#cc79a7",
    "mxnet": "#009e73",
}
OTHER = "#808080"
INK, MUTED, ALARM = "#1b1d22", "#6a7079", "#b3261e"
STYLE: dict[
    Any, Any
] = {  # fonts that matplotlib ships, so that every machine draws the same picture
    "font.family": "STIXGeneral",
    "mathtext.fontset": "stix",
    "font.size": 17,
    "axes.titlesize": 19,
    "axes.edgecolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.color": INK,
    "axes.labelcolor": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
}
