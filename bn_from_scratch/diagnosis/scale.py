"""What rounding may do to an output, and how far two of them are apart."""

import numpy as np

from bn_from_scratch.diagnosis.prediction import (
    GRADIENTS,
    other_axes,
    spread,
    start_of,
)
from bn_from_scratch.diagnosis.recording import IMAGES

# Of the largest value: what sums in another order may differ by; and the spacing of
# numbers, which the mean of a channel costs its output.
TOLERANCE = {"float64": 1e-6, "float32": 1e-5, "float16": 2e-3}
SPACING = {"float64": 2.3e-16, "float32": 1.2e-7, "float16": 1e-3}
LEAST = 1e-6  # a variance: what an eps makes of a constant channel
ROUNDINGS = 8  # of the mean, in units of SPACING
CANCELLED = 64  # of the mean's square, likewise: what one pass may lose of a variance


class Scale:
    """What rounding may do to the outputs of one event."""

    def __init__(self, event, recording):
        X = np.asarray(event.values["X"], np.float64)
        axes = other_axes(X)
        kind = _coarsest(event)
        self.n = X.size // max(X.shape[1], 1)
        self.base = TOLERANCE[kind]
        self.spacing = SPACING[kind]
        if kind == "float32":
            self.base += self.spacing * np.sqrt(self.n)
        gamma, _, self.old_mean, self.old_var = start_of(recording)
        self.gamma, self.mean, self.var = np.abs(gamma), X.mean(axes), X.var(axes)
        self.largest = np.abs(X).max(axes, initial=0)
        self.rounded = ROUNDINGS * self.spacing * self.largest
        self.shift = self.rounded / np.sqrt(np.square(spread(X)) + LEAST)  # of X_hat
        lost = CANCELLED * self.spacing * np.square(self.mean)
        self.cancelled = lost > 4 * self.base * (self.var + LEAST)
        dY = np.asarray(event.values.get("dY", np.zeros_like(X)), np.float64)
        self.norm = np.sqrt(np.square(dY).sum(axes))
        self.peak = np.abs(dY).max(axes, initial=0)

    def allowed(self, output, observed):
        """The difference of an output that is rounding.  -> [C] or []"""
        observed = np.abs(np.where(np.isfinite(observed), observed, 0))
        base, largest = self.base, observed.max(initial=0)
        if output == "Y":
            per_channel = observed.max(other_axes(observed))
            return base * per_channel + self.shift * np.maximum(self.gamma, 1) + 1e-30
        if output.endswith("moving_mean"):
            return base * np.maximum(observed, self.largest) + self.rounded + 1e-30
        if output.endswith("moving_var"):
            sizes = np.maximum(np.maximum(observed, self.old_var), self.var)
            return base * sizes + np.square(self.rounded)
        weight = self.norm * np.where(self.shift < 1, base + self.shift, 0)
        if output == "dX":
            total = 4 * np.linalg.norm(weight * np.maximum(self.gamma, 1))
        else:
            total = 4 * np.sqrt(self.n) * np.linalg.norm(weight)
        return total + base * largest + 1e-30

    def allowed_between(self, output, one, other):
        """Likewise of two records, whose gradients are compared in full.  -> [C]"""
        if output not in GRADIENTS:
            return self.allowed(output, one) + self.allowed(output, other)
        share = 4 * (self.base + self.shift)
        if output == "dX":
            largest = np.maximum(self.gamma, 1) / np.sqrt(self.var + LEAST)
            return share * largest * self.peak + 1e-30
        return share * self.norm * np.sqrt(self.n) + 1e-30


def _coarsest(event):
    """The float with the fewest digits among an event's X and Y."""
    kinds = {str(event.values[k].dtype) for k in ("X", "Y") if k in event.values}
    return next((k for k in ("float16", "float32") if k in kinds), "float64")


def distance(one, other, output):
    """The largest distance, per channel where there are channels.  -> [C] or [K]

    NaN is equal to NaN, and infinity to infinity; to all else they are infinitely far.
    """
    with np.errstate(invalid="ignore"):
        apart = np.abs(one - other)
    same = (one == other) | (np.isnan(one) & np.isnan(other))
    apart = np.where(same, 0, np.where(np.isnan(apart), np.inf, apart))
    if output in IMAGES and apart.ndim > 1:
        return apart.max(other_axes(apart), initial=0)
    return apart
