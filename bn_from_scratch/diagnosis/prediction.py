"""What the spec answers to the inputs of a record, under a hypothesis."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from bn_from_scratch import spec
from bn_from_scratch.checker import model
from bn_from_scratch.checker.mistakes import BACKWARD, Mistake
from bn_from_scratch.diagnosis.causes import together
from bn_from_scratch.diagnosis.recording import Event, Recording
from bn_from_scratch.spec import CHANNEL_AXIS, EPS, MOMENTUM

Key = tuple[str, str]  # event and output

LARGEST_HALF = 65_504  # of float16
BY_HAND: set[str] = {step for mistake in BACKWARD for step in mistake.steps}
DIRECTIONS = 3  # along which a gradient is compared
GRADIENTS = ("dX", "dgamma", "dbeta")


@dataclasses.dataclass(frozen=True)
class Hypothesis:
    """What a layer may be: the spec with these mistakes and these numbers.

    >>> right = Hypothesis(eps=1e-3)
    >>> right.plus(BACKWARD[0]).without(BACKWARD[0]) == right
    True
    """

    mistakes: tuple[Mistake, ...] = ()
    eps: float = EPS
    momentum: float = MOMENTUM

    @functools.cached_property
    def possible(self) -> bool:
        """Whether its mistakes go together."""
        return together(self.mistakes) is not None

    @functools.cached_property
    def steps(self) -> model.Steps:
        """The Steps with all mistakes; ValueError where they contradict each other."""
        if (steps := together(self.mistakes)) is None:
            raise ValueError("mistakes of a hypothesis must go together")
        return steps

    @property
    def key(self) -> tuple[frozenset[str], float, float]:
        """What tells it from every other."""
        return frozenset(m.name for m in self.mistakes), self.eps, self.momentum

    def plus(self, *mistakes: Mistake) -> "Hypothesis":
        """The same with more mistakes."""
        return dataclasses.replace(self, mistakes=(*self.mistakes, *mistakes))

    def without(self, mistake: Mistake) -> "Hypothesis":
        """The same with one mistake less."""
        left = tuple(m for m in self.mistakes if m is not mistake)
        return dataclasses.replace(self, mistakes=left)


def start_of(recording: Recording) -> list[np.ndarray]:
    """gamma, beta, moving_mean, moving_var [C]; of a new layer where not recorded."""
    C = recording.num_features
    new = {"gamma": 1.0, "beta": 0.0, "moving_mean": 0.0, "moving_var": 1.0}
    return [
        np.asarray(recording.start.get(name, np.full(C, value)), np.float64)
        for name, value in new.items()
    ]


def predict(
    recording: Recording, hypothesis: Hypothesis
) -> dict[Key, Callable[[], np.ndarray]]:
    """{(event, output): () -> array} of every event of a record.

    Of dX, dgamma and dbeta in the first training event it is their products with
    `directions`, [K]; other events have none.
    """
    gamma, beta, *fresh = hypothesis.steps.loaded(*start_of(recording))
    moving, found, first = fresh, {}, first_backward(recording)
    for step, event in enumerate(recording.events, 1):
        call = _Call(event, hypothesis, 1 if event.half else step)
        start = [gamma, beta, *(fresh if event.half else moving)]
        Y, *moved = call.forward(call.X, *start)
        moving = call.after_backward(start, moved)
        values = dict(zip(("moving_mean", "moving_var"), moved, strict=True))
        if event.training:
            names = "backward_moving_mean", "backward_moving_var"
            values |= dict(zip(names, moving, strict=True))
        found |= {
            (event.name, k): lambda v=v: v for k, v in ({"Y": Y} | values).items()
        }
        if event is first:
            gradients = functools.cache(functools.partial(call.gradients, start))
            for name in GRADIENTS:
                found[event.name, name] = lambda g=gradients, n=name: g()[n]
    return found


def first_backward(recording: Recording) -> Event | None:
    """The first training event with a dY; None if there is none."""
    found = (e for e in recording.events if e.training and "dY" in e.values)
    return next((e for e in found if not e.half), None)


class _Call:
    """One event under a hypothesis."""

    def __init__(self, event, hypothesis, step):
        self.event, self.border = event, hypothesis.steps.border
        self.steps = _steps_at(event, hypothesis.steps, step)
        self.X = np.asarray(event.values["X"], np.float64)
        self.options = {
            "training": event.training,
            "eps": hypothesis.eps,
            "momentum": hypothesis.momentum,
            "channel_axis": CHANNEL_AXIS,
            "recorded": True,
        }

    def forward(self, X, *start, steps=None):
        """Y and both moving averages."""
        steps, k = steps or self.steps, self.border
        width = [(0, 0), (0, 0), *[(k, k)] * (X.ndim - 2)]
        padded = np.pad(X, width) if k else X
        Y, *moved = model.forward(steps, padded, *start, **self.options)
        inner = (slice(k, -k or None),) * (X.ndim - 2)
        return Y[(..., *inner)] if k else Y, *(_vector(v, X.shape[1]) for v in moved)

    def after_backward(self, start, moved):
        """The moving averages once the backward has run."""
        updates = self.steps.updates_in_backward(self.event.training)
        if not updates:
            return moved
        steps = dataclasses.replace(self.steps, updates=lambda training: updates)
        return self.forward(self.X, *start[:2], *moved, steps=steps)[1:]

    def gradients(self, start):
        """Products of dX, dgamma and dbeta with `directions`, by name."""
        dY = np.asarray(self.event.values["dY"], np.float64)
        steps, (gamma, beta, *moving) = self.steps, start
        vectors = directions(self.X)
        if any(getattr(steps, s) is not getattr(model.RIGHT, s) for s in BY_HAND):
            eps = self.options["eps"]
            found = model.backward(steps, dY, self.X, gamma, eps, CHANNEL_AXIS)
            found = dict(zip(GRADIENTS, found, strict=True))
            return {name: along(found[name], vectors[name]) for name in found}

        def slope(**moved):
            at = {"X": self.X, "gamma": gamma, "beta": beta}
            at |= {k: at[k] + model.STEP * 1j * v for k, v in moved.items()}
            Y = self.forward(at["X"], at["gamma"], at["beta"], *moving)[0]
            return np.imag((dY * Y).sum()) / model.STEP

        return {
            f"d{name}": np.array([slope(**{name: v}) for v in vectors[f"d{name}"]])
            for name in ("X", "gamma", "beta")
        }


def directions(X: np.ndarray) -> dict[str, np.ndarray]:
    """Fixed directions of dX, dgamma and dbeta; channels weigh alike in each.

    A channel whose mean is large against its scale has none: its gradient is rounding.
    """
    rng, broadcast = np.random.default_rng(X.shape), (1, -1) + (1,) * (X.ndim - 2)
    std = spread(X).reshape(broadcast)
    largest = np.abs(X).max(other_axes(X)).reshape(broadcast)
    sound = largest < 100 * std
    vectors = rng.normal(size=(DIRECTIONS, X.shape[1]))
    return {
        "dX": rng.normal(size=(DIRECTIONS, *X.shape)) * std * sound,
        "dgamma": vectors * sound.ravel(),
        "dbeta": vectors,
    }


def spread(X: np.ndarray) -> np.ndarray:
    """The standard deviation of each channel, with or without its zeros.  -> [C]

    The smaller one: zeros may be padding, which a layer leaves out.
    """
    axes = other_axes(X)
    n = np.maximum((X != 0).sum(axes, keepdims=True), 1)
    mean = X.sum(axes, keepdims=True) / n
    var = (np.square(X - mean) * (X != 0)).sum(axes, keepdims=True) / n
    return np.minimum(X.std(axes), np.sqrt(np.ravel(var)))


def other_axes(X: np.ndarray) -> tuple[int, ...]:
    """All axes but the channels'."""
    return spec.reduce_axes(X.ndim, CHANNEL_AXIS)


def along(gradient: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Products of a gradient with its directions.  -> [K]"""
    if np.size(gradient) != vectors[0].size:  # of statistics over wrong axes
        return np.full(len(vectors), np.nan)
    gradient = np.reshape(gradient, vectors.shape[1:])
    return (vectors * gradient).reshape(len(vectors), -1).sum(1)


def _steps_at(event, steps, step):
    """The Steps of one event, the `step`-th since the start."""
    found: dict[str, Any] = (
        {"momentum": lambda momentum: 1 / step} if steps.pools else {}
    )
    if steps.overflows and event.half:

        def overflowing(X, mean, axes):
            var = steps.var(X, mean, axes)
            return np.where(var > LARGEST_HALF, np.inf, var)

        found["var"] = overflowing
    return dataclasses.replace(steps, **found)


def _vector(v, C):
    """[C] of a vector that kept the rank of X; others, of wrong axes, as they are."""
    return np.ravel(v) if v.size == C and np.shape(v)[1:2] in ((), (C,)) else v
