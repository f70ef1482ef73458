"""What speaks for a cause, in numbers."""

import dataclasses
from collections.abc import Callable, Iterable

import numpy as np

from bn_from_scratch.checker.mistakes import Mistake
from bn_from_scratch.diagnosis.causes import said_of
from bn_from_scratch.diagnosis.numbers import slopes
from bn_from_scratch.diagnosis.prediction import (
    GRADIENTS,
    Hypothesis,
    Key,
    other_axes,
    start_of,
)
from bn_from_scratch.diagnosis.side import Side


@dataclasses.dataclass(frozen=True)
class Deviation:
    """Where two arrays are farthest apart, in units of what rounding may do.

    >>> print(Deviation(("step1", "Y"), relative=0.25, channel=3, excess=1e4))
    2.5e-01 in step1.Y, channel 3
    """

    key: Key
    relative: float  # to the largest value there
    channel: int | None  # None: of a gradient known by its directions
    excess: float

    def __str__(self) -> str:
        where = "" if self.channel is None else f", channel {self.channel}"
        return f"{self.relative:.1e} in {'.'.join(self.key)}{where}"


def deviation(
    key: Key, apart: np.ndarray, largest: np.ndarray, allowed: np.ndarray
) -> Deviation:
    """The Deviation of a key; apart, largest and allowed are [C] or [K]."""
    excess = np.ravel(apart / allowed)
    worst = int(excess.argmax())
    apart = np.ravel(np.broadcast_to(apart, excess.shape))[worst]
    largest = np.ravel(np.broadcast_to(largest, excess.shape))[worst]
    channel = None if key[1] in GRADIENTS and allowed.ndim == 0 else worst
    relative = float(apart / largest) if largest else float(apart > 0)
    return Deviation(key, relative, channel, float(excess[worst]))


def misfit(
    side: Side, hypothesis: Hypothesis, keys: Iterable[Key] | None = None
) -> Deviation:
    """Where what was observed is farthest from what a hypothesis predicts."""
    found = [
        deviation(
            key,
            side.distance(key, hypothesis),
            sizes(side.observed[key], key[1]),
            np.asarray(side.allowed[key]),
        )
        for key in keys or side.observed
    ]
    return max(found, key=lambda d: d.excess)


def sizes(value: np.ndarray, output: str) -> np.ndarray:
    """The largest value of each channel; of a gradient's products, of all."""
    value = np.abs(np.nan_to_num(value, nan=0, posinf=0, neginf=0))
    if value.ndim > 1:
        return value.max(other_axes(value), initial=0)
    return np.full(value.shape, value.max()) if output in GRADIENTS else value


def of_mistake(side: Side, mistake: Mistake, hypothesis: Hypothesis) -> str:
    """The sentence that says what a side does, and how that was seen."""
    without = hypothesis.without(mistake)
    details = DETAILS[mistake.name](side, hypothesis) if mistake.name in DETAILS else ""
    said = said_of(mistake, side.name) + details
    if side.predicted(without) is None:
        return f"{said}."
    apart = misfit(side, without)
    left = misfit(side, hypothesis, [apart.key]).relative
    return (
        f"{said}. Without it the spec is off by {apart}{about(side, apart)}; with it "
        f"by {left:.0e}."
    )


def about(side: Side, found: Deviation) -> str:
    """The mean and the variance of the channel where something is off."""
    if found.channel is None:
        return ""
    scale = side.scales[found.key[0]]
    mean, var = scale.mean[found.channel], scale.var[found.channel]
    return f" (mean {mean:.2g}, variance {var:.2g})"


def _stored_ratio(side, hypothesis):
    """n/(n-1) as it was stored: what moved the variance, over the batch's own."""
    for event in side.recording.events:
        after = event.values.get("backward_moving_var", event.values.get("moving_var"))
        if after is not None and event.training and not event.half:
            scale, momentum = side.scales[event.name], hypothesis.momentum
            before = start_of(side.recording)[3]
            stored = (after - (1 - momentum) * before) / momentum
            ratio = np.median(stored / scale.var)
            exact = scale.n / max(scale.n - 1, 1)
            return f": {ratio:.5f} times, and n/(n-1) is {exact:.5f} (n = {scale.n})"
    return ""


def _variance_used(side, hypothesis):
    """The variance that a channel was divided by, where it is farthest off."""
    for event in side.recording.events:
        if "Y" in event.values and event.training and not event.half:
            scale = side.scales[event.name]
            with np.errstate(all="ignore"):
                ratio = start_of(side.recording)[0] / slopes(event)
                used = np.square(ratio) - hypothesis.eps
            off = np.abs(np.where(side.cancelling(), used - scale.var, 0))
            c = int(np.nan_to_num(off, nan=0, posinf=1e30).argmax())
            used, own = max(used[c], 0), scale.var[c]
            where = f"{event.name}, channel {c}, mean {scale.mean[c]:.3g}"
            return f": it divides by a variance of {used:.3g}, not {own:.3g} ({where})"
    return ""


DETAILS: dict[str, Callable[[Side, Hypothesis], str]] = {
    "stored variance: unbiased": _stored_ratio,
    "one-pass variance": _variance_used,
}
