"""One side of a comparison: what was recorded, beside what a hypothesis predicts."""

import dataclasses
from collections.abc import Callable

import numpy as np

from bn_from_scratch.diagnosis.prediction import (
    GRADIENTS,
    Hypothesis,
    Key,
    along,
    directions,
    first_backward,
    predict,
)
from bn_from_scratch.diagnosis.recording import OUTPUTS, Event, Recording
from bn_from_scratch.diagnosis.scale import Scale, distance


class Side:
    """The outputs of one record by key, (event, output), and what explains them.

    >>> X = np.array([[-1.0], [1.0]])
    >>> event = Event("prediction", {"X": X, "Y": X})
    >>> side = Side(Recording({}, {}, {}, [event]), "a")
    >>> side.explained(Hypothesis(eps=0.0)), side.explained(Hypothesis(eps=1.0))
    (True, False)
    """

    def __init__(self, recording: Recording, name: str) -> None:
        self.recording = recording
        self.name = name
        self.events: dict[str, Event] = {
            event.name: event for event in recording.events
        }
        self.raw: dict[Key, np.ndarray] = {
            (event.name, k): event.values[k]
            for event in recording.events
            for k in OUTPUTS
            if k in event.values
        }
        self.observed: dict[Key, np.ndarray] = self._comparable()
        self.scales: dict[str, Scale] = {
            e.name: Scale(e, recording) for e in recording.events
        }
        self.allowed: dict[Key, np.ndarray | np.floating] = {
            key: self.scales[key[0]].allowed(key[1], value)
            for key, value in self.observed.items()
        }
        self._predicted = {}

    def _comparable(self):
        """What is compared: outputs per channel, gradients by their directions."""
        first, found = first_backward(self.recording), {}
        for (event, name), value in self.raw.items():
            if name not in GRADIENTS:
                found[event, name] = np.asarray(value, np.float64)
            elif first is not None and event == first.name:
                vectors = directions(np.asarray(first.values["X"], np.float64))[name]
                found[event, name] = along(np.asarray(value, np.float64), vectors)
        return found

    def without_half(self) -> "Side":
        """The side without its 16-bit call; itself where it has no other."""
        rest = [event for event in self.recording.events if not event.half]
        if not rest:
            return self
        recording = dataclasses.replace(self.recording, events=rest)
        return Side(recording, self.name)

    def predicted(
        self, hypothesis: Hypothesis
    ) -> dict[Key, Callable[[], np.ndarray]] | None:
        """{key: () -> array}, or None where the spec cannot go on."""
        if hypothesis.key not in self._predicted:
            try:
                found = predict(self.recording, hypothesis)
            except ValueError:  # shapes that do not go together
                found = None
            self._predicted[hypothesis.key] = found
        return self._predicted[hypothesis.key]

    def _values(self, hypothesis):
        """`predicted`, of a hypothesis under which the spec can go on."""
        if (found := self.predicted(hypothesis)) is None:
            raise ValueError("the spec cannot go on under this hypothesis")
        return found

    def distance(self, key: Key, hypothesis: Hypothesis) -> np.ndarray:
        """How far what a hypothesis predicts is from what was observed.  -> [C] or [K]

        0 where it says nothing: of statistics over wrong axes, which no layer keeps.
        """
        value, observed = self._values(hypothesis)[key](), self.observed[key]
        apart = np.zeros(np.shape(self.allowed[key]))
        if np.size(value) == np.size(observed):
            apart = distance(observed, np.reshape(value, observed.shape), key[1])
        if hypothesis.steps.cancels and key[1] not in GRADIENTS:
            apart = np.where(self.cancelling(), 0, apart)
        return apart

    def matches(self, key: Key, hypothesis: Hypothesis, slack: float = 1) -> bool:
        """Whether a hypothesis predicts what was observed, up to rounding."""
        return bool((self.distance(key, hypothesis) <= slack * self.allowed[key]).all())

    def cancelling(self) -> np.ndarray:
        """Channels whose variance one pass loses.  -> bool [C]"""
        lost = [s.cancelled for e, s in self.scales.items() if self.events[e].training]
        return np.any(lost, 0) if lost else np.zeros(self.recording.num_features, bool)

    def explained(self, hypothesis: Hypothesis) -> bool:
        """Whether a hypothesis predicts all that was observed, gradients last."""
        if not hypothesis.possible or self.predicted(hypothesis) is None:
            return False
        keys = sorted(self.observed, key=lambda key: key[1] in GRADIENTS)
        return all(self.matches(key, hypothesis) for key in keys)

    def left(self, hypothesis: Hypothesis) -> set[Key]:
        """The keys that a hypothesis does not explain."""
        if not hypothesis.possible or self.predicted(hypothesis) is None:
            return set(self.observed)
        return {key for key in self.observed if not self.matches(key, hypothesis)}

    def changed(self, hypothesis: Hypothesis, other: Hypothesis) -> set[Key]:
        """The keys, gradients aside, that two hypotheses predict differently."""
        mine, theirs = self._values(hypothesis), self._values(other)
        cancels = hypothesis.steps.cancels and self.cancelling().any()
        return {
            key
            for key in self.observed
            if key[1] not in GRADIENTS
            and (cancels or not self._alike(key, mine[key](), theirs[key]()))
        }

    def _alike(self, key, one, other):
        if np.size(one) != np.size(other):
            return False
        apart = distance(np.reshape(one, np.shape(other)), other, key[1])
        return bool((apart <= self.allowed[key]).all())
