"""The numbers of a layer, eps and momentum, fitted to what was recorded."""

import itertools
import math

import numpy as np

from bn_from_scratch.diagnosis.causes import BORDERS
from bn_from_scratch.diagnosis.prediction import other_axes, start_of
from bn_from_scratch.diagnosis.recording import STATE, Event
from bn_from_scratch.diagnosis.side import Side
from bn_from_scratch.spec import EPS, MOMENTUM

Numbers = tuple[float, float]  # eps and momentum

SLACK = 30  # fitted numbers are off by a few roundings of what they are fitted to
USUAL_EPS = (1e-3, 1e-5)
USUAL_MOMENTUM = (0.1, 0.9, 0.01)


def candidates(side: Side) -> tuple[list[Numbers], list[Numbers]]:
    """Pairs (eps, momentum) to try: those to expect, then those that only fit."""
    given_eps = side.recording.settings.get("eps", EPS)
    given = side.recording.settings.get("momentum", MOMENTUM)
    eps, odd_eps = _sorted(given_eps, _eps_fits(side), _is_usual_eps)
    fits = _momentum_fits(side)
    if not any("moving" in name for _, name in side.raw):
        fits = USUAL_MOMENTUM
    # What two updates by a plain number look like is left to that cause.
    once = {m: _plain(1 - np.sqrt(1 - m), 1e-4) for m in fits if m != given}
    twice = [m for m, o in once.items() if len(f"{o}") < len(f"{m}")]
    fits = [once[m] if m in twice else m for m in fits]
    momentum, odd_momentum = _sorted(given, fits, _is_usual_momentum)
    usual = list(itertools.product(eps, momentum))
    both = itertools.product(eps + odd_eps, momentum + odd_momentum)
    return usual, [pair for pair in both if pair not in usual]


def _sorted(given, fits, is_usual):
    """What is given and the usual among the fits; the other fits."""
    fits = [fit for fit in dict.fromkeys(fits) if fit != given]
    usual = [fit for fit in fits if is_usual(fit)]
    return [given, *usual], [fit for fit in fits if fit not in usual]


def _is_usual_eps(eps):
    return eps == 0 or f"{eps:.3e}".startswith("1.000")


def _is_usual_momentum(momentum):
    """Whether it is, or leaves, a half, a tenth, a hundredth or a thousandth."""
    usual = (0.5, 0.1, 0.01, 0.001)
    return any(np.isclose(m, usual, 1e-9).any() for m in (momentum, 1 - momentum))


def _statistics(X):
    """Triples (mean, var, n) that a layer may take of X: of all; of what is not 0 in
    every channel; with a border of zeros."""
    axes, n = other_axes(X), X.size // X.shape[1]
    mean, var = X.mean(axes), X.var(axes)
    found = [(mean, var, n)]
    valid = np.moveaxis(X, 1, -1)[(X != 0).any(1)]
    if 1 < len(valid) < n:
        found.append((valid.mean(0), valid.var(0), len(valid)))
    for k in BORDERS if X.ndim > 2 else ():
        more = X.shape[0] * math.prod(size + 2 * k for size in X.shape[2:])
        part = n / more
        square = part * (var + np.square(mean))
        found.append((part * mean, square - np.square(part * mean), more))
    return found


def _eps_fits(side):
    """Every eps under which var + eps is what some output was divided by."""
    found = []
    for event in side.recording.events:
        if "Y" in event.values and not event.half:
            found += _eps_fits_of(side, event)
    return found


def _eps_fits_of(side, event):
    gamma, beta, moving_mean, _ = start_of(side.recording)
    scale, slope = side.scales[event.name], slopes(event)
    variances = [_before(side, event, "moving_var")]
    if event.training:
        for _, var, n in _statistics(np.asarray(event.values["X"], np.float64)):
            variances += [var, var * n / max(n - 1, 1)]
    found = []
    divided = (gamma, np.ones_like(gamma), beta, moving_mean)
    for factor, var in itertools.product(divided, variances):
        with np.errstate(all="ignore"):
            total = np.square(factor / slope)  # var + eps
        sound = np.isfinite(total) & (total > 0) & (scale.shift < SLACK * scale.base)
        if not sound.any():
            continue
        rest, weight = (total - var)[sound], 1 / np.square(total[sound])
        eps = (weight * rest).sum() / weight.sum()
        error = SLACK * scale.base * total[sound]
        if (np.abs(rest - eps) <= error).all() and -error.min() <= eps < 1:
            found += [_nice(eps, error.min()), max(float(f"{eps:.3g}"), 0.0)]
    return found


def slopes(event: Event) -> np.ndarray:
    """dY/dX of each channel, as if Y were a line in X.  -> [C]"""
    X, Y = (np.asarray(event.values[k], np.float64) for k in ("X", "Y"))
    axes = other_axes(X)
    X = X - X.mean(axes, keepdims=True)
    with np.errstate(all="ignore"):
        return (X * Y).sum(axes) / np.square(X).sum(axes)


def _momentum_fits(side):
    """Every momentum, of (0, 1), by which a step may have moved an average."""
    found = []
    for event in side.recording.events:
        if event.training and not event.half:
            found += _momentum_fits_of(side, event)
    return found


def _momentum_fits_of(side, event):
    scale, found = side.scales[event.name], []
    ways = []
    for mean, var, n in _statistics(np.asarray(event.values["X"], np.float64)):
        ways += [("moving_mean", mean), ("moving_var", var)]
        ways += [("moving_var", var * n / max(n - 1, 1))]
    for (name, batch), stage in itertools.product(ways, ("", "backward_")):
        after = event.values.get(f"{stage}{name}")
        if after is None:
            continue
        before = _before(side, event, name)
        size = scale.largest if name == "moving_mean" else scale.var + before
        moved, way = (after - before) / size, (batch - before) / size
        momentum = (moved * way).sum() / np.square(way).sum()
        error = SLACK * scale.base / np.abs(way).max()
        straight = np.abs(moved - momentum * way) <= SLACK * scale.base
        if straight.all() and error < momentum < 1 - error:
            found.append(_plain(momentum, max(error / 10, 1e-5)))
    return found


def _before(side, event, name):
    """The recorded average that an event starts from."""
    events = [e for e in side.recording.events if not e.half]
    for earlier in reversed(events[: events.index(event)]):
        for key in (f"backward_{name}", name):
            if key in earlier.values:
                return np.asarray(earlier.values[key], np.float64)
    return dict(zip(STATE, start_of(side.recording), strict=True))[name]


def _nice(number, error):
    """The usual number, 0 or power of ten within the error; else four digits."""
    near = [u for u in USUAL_EPS if abs(number - u) <= error]
    if near:
        return near[0]
    if abs(number) <= error:
        return 0.0
    power = float(f"1e{round(np.log10(max(number, 1e-30)))}")
    if abs(number - power) <= max(error, 0.005 * power):
        return power
    return float(f"{number:.4g}")


def _plain(number, error):
    """The number with the fewest digits within an error."""
    found = (round(float(number), digits) for digits in range(1, 8))
    return next((f for f in found if abs(f - number) <= error), float(number))
