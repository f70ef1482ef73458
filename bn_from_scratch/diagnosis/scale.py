"""What rounding may do to an output, and how far two of them are apart."""

import numpy as np

from bn_from_scratch.diagnosis.prediction import (
    GRADIENTS,
    other_axes,
    spread,
    start_of,
)
from bn_from_scratch.diagnosis.recording import IMAGES, Event, Recording

# Of the largest value: what sums in another order may differ by; and the spacing of
# numbers, which the mean of a channel costs its output.
TOLERANCE = {"float64": 1e-6, "float32": 1e-5, "float16": 2e-3}
SPACING = {"float64": 2.3e-16, "float32": 1.2e-7, "float16": 1e-3}
LEAST = 1e-6  # a variance: what an eps makes of a constant channel
ROUNDINGS = 8  # of the mean, in units of SPACING
CANCELLED = 64  # of the mean's square, likewise: what one pass may lose of a variance


class Scale:
    """What rounding may do to the outputs of one event.

    >>> X = np.arange(6.0).reshape(3, 2)
    >>> event = Event("step1", {"X": X})
    >>> scale = Scale(event, Recording({}, {}, {}, [event]))
    >>> scale.n, scale.mean.tolist()
    (3, [2.0, 3.0])
    """

    def __init__(self, event: Event, recording: Recording) -> None:
        X = np.asarray(event.values["X"], np.float64)
        dY = np.asarray(event.values.get("dY", np.zeros_like(X)), np.float64)
        axes, kind = other_axes(X), _coarsest(event)
        gamma, _, _, old_var = start_of(recording)
        self.n: int = X.size // max(X.shape[1], 1)
        self.spacing: float = SPACING[kind]
        self.base: float = TOLERANCE[kind]
        if kind == "float32":
            self.base += self.spacing * np.sqrt(self.n)
        self.gamma: np.ndarray = np.abs(gamma)
        self.old_var: np.ndarray = old_var
        self.mean: np.ndarray = X.mean(axes)
        self.var: np.ndarray = X.var(axes)
        self.largest: np.ndarray = np.abs(X).max(axes, initial=0)
        self.rounded: np.ndarray = ROUNDINGS * self.spacing * self.largest
        # Of X_hat.
        self.shift: np.ndarray = self.rounded / np.sqrt(np.square(spread(X)) + LEAST)
        lost = CANCELLED * self.spacing * np.square(self.mean)
        self.cancelled: np.ndarray = lost > 4 * self.base * (self.var + LEAST)
        self.norm: np.ndarray = np.sqrt(np.square(dY).sum(axes))
        self.peak: np.ndarray = np.abs(dY).max(axes, initial=0)

    def allowed(self, output: str, observed: np.ndarray) -> np.ndarray | np.floating:
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

    def allowed_between(
        self, output: str, one: np.ndarray, other: np.ndarray
    ) -> np.ndarray | np.floating:
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


def distance(one: np.ndarray, other: np.ndarray, output: str) -> np.ndarray:
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
