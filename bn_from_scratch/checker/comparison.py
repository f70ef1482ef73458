"""What was observed of one task, beside what the spec says under given mistakes."""

import functools
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from bn_from_scratch.checker import tasks
from bn_from_scratch.checker.cases import Case
from bn_from_scratch.checker.mistakes import MISTAKES, Mistake, together
from bn_from_scratch.checker.model import projected
from bn_from_scratch.checker.sandbox import Failure, ObservedTask

Key = tuple[str, str]  # case and output
Observed = np.ndarray | Failure | None  # None: not among the outputs
END = ""  # the output of a case in which the spec cannot go on
Prediction = tuple[Key, np.ndarray | None]  # None: of the END


class Comparison:
    """The outputs of one task by key, (case, output): observed, right, and wrong.

    >>> case = tasks.cases("batch_stats", "numpy")[0]
    >>> outputs = tasks.expected("batch_stats", case, "numpy", together([]))
    >>> observed = {case.name: {name: value() for name, value in outputs}}
    >>> sorted(Comparison("batch_stats", "numpy", observed).wrong)
    [('4-D', 'arguments left alone'), ('4-D', 'mean'), ('4-D', 'var')]
    """

    def __init__(self, name: str, framework: str, observed: ObservedTask) -> None:
        self.name = name
        self.framework = framework
        self.cases: dict[str, Case] = {
            case.name: case for case in tasks.cases(name, framework)
        }
        right = predictions(name, framework, ())
        self.right: dict[Key, np.ndarray] = {
            key: value for key, value in right if value is not None
        }
        self.raw: dict[Key, Observed] = {
            key: self._read(observed, *key) for key in self.right
        }
        self.observed: dict[Key, Observed] = {
            key: _directed(key[1], v) for key, v in self.raw.items()
        }
        self.wrong: set[Key] = {
            key
            for key, value in self.right.items()
            if not _same(self.observed[key], value, self._tolerance(key))
        }

    @staticmethod
    def _read(observed, case, output):
        outputs = observed.get(case, Failure("Missing", "no answer"))
        return outputs if isinstance(outputs, Failure) else outputs.get(output)

    def _tolerance(self, key):
        return self.cases[key[0]].tolerance

    def to_show(self, key: Key) -> np.ndarray:
        """What is right, in full."""
        if key[1] in tasks.DIRECTED:
            case = self.cases[key[0]]
            return tasks.whole_gradient(self.name, case, self.framework)
        return self.right[key]

    def predictions(self, mistakes: Iterable[Mistake]) -> Iterable[Prediction]:
        """Pairs (key, value) of an answer that makes these mistakes."""
        return predictions(self.name, self.framework, tuple(mistakes))

    def matches(self, key: Key, value: np.ndarray | None) -> bool:
        """Whether a predicted value is the observed one."""
        observed, right = self.observed[key], self.right[key]
        if _same(observed, value, self._tolerance(key)):
            return True
        if value is None or fits(value, right):
            return False
        if np.size(value) == 1:  # one for all channels, however many times it is given
            value = np.full_like(right, np.ravel(value)[0])
            return _same(observed, value, self._tolerance(key))
        malformed = not fits(observed, right)
        return malformed and _alike(observed, value, self._tolerance(key))

    def allows(self, key: Key, value: np.ndarray | None, broken: bool) -> bool:
        """Whether what was observed does not speak against a predicted value.

        broken: statistics of a wrong shape are known, and break what comes after them.
        """
        if key[1] == END:  # the spec cannot go on: the answer cannot be right either
            return any(k[0] == key[0] for k in self.wrong)
        observed, right = self.observed[key], self.right[key]
        if isinstance(observed, Failure):
            return broken
        # Both malformed: an answer need not break in the way the spec would.
        malformed = not fits(observed, right) and not fits(value, right)
        return malformed or self.matches(key, value)

    def agreement(self, mistakes: Iterable[Mistake]) -> set[Key]:
        """The keys whose observed values these mistakes give."""
        found = self.predictions(mistakes)
        return {
            key for key, value in found if key[1] != END and self.matches(key, value)
        }

    def changed(self, mistakes: Iterable[Mistake]) -> frozenset[Key]:
        """The keys that these mistakes change."""
        names = [m.name for m in mistakes]
        return _changed(self.name, self.framework, *names)


@functools.lru_cache(None)  # whatever was observed
def _changed(task, framework, *names):
    mistakes = [m for m in MISTAKES if m.name in names]
    found = dict(predictions(task, framework, mistakes))
    tolerances = {case.name: case.tolerance for case in tasks.cases(task, framework)}
    return frozenset(
        key
        for key, right in predictions(task, framework, ())
        if right is not None
        and (key not in found or not _same(found[key], right, tolerances[key[0]]))
    )


def predictions(
    task: str, framework: str, mistakes: Sequence[Mistake]
) -> Iterable[Prediction]:
    """Pairs (key, value) of an answer with these mistakes."""
    if len(mistakes) <= 1:  # asked for again and again
        return _kept(task, framework, *(m.name for m in mistakes))
    return _predicted(task, framework, mistakes)


@functools.lru_cache(None)
def _kept(task, framework, *names):
    mistakes = [m for m in MISTAKES if m.name in names]
    return list(_predicted(task, framework, mistakes))


def _predicted(task, framework, mistakes):
    if (steps := together(mistakes)) is None:
        names = " and ".join(m.name for m in mistakes)
        raise ValueError(f"mistakes must go together; got {names}")
    for case in tasks.cases(task, framework):
        try:
            for output, value in tasks.expected(task, case, framework, steps):
                yield (case.name, output), np.real(value())
        except ValueError:  # shapes that do not go together
            yield (case.name, END), None


def _directed(output, value):
    """What is compared of an observed output: of dX its products with directions."""
    if output not in tasks.DIRECTED or isinstance(value, Failure) or value is None:
        return value
    return projected(value)


def _same(observed, expected, tolerance):
    """Equal in shape, axes of size 1 aside, and in value, relative to the largest."""
    return fits(observed, expected) and _close(observed, expected, tolerance)


def _alike(observed, expected, tolerance):
    """Equal in value where neither has the right shape: laid out otherwise."""
    if observed is None or isinstance(observed, Failure):
        return False
    return np.size(observed) == np.size(expected) and _close(
        observed, expected, tolerance
    )


def _close(observed, expected, tolerance):
    """Equal to a tolerance relative to the largest expected value."""
    observed, expected = np.ravel(observed), np.ravel(expected)
    largest = np.abs(expected[np.isfinite(expected)]).max(initial=1e-3)
    return np.allclose(
        observed, expected, rtol=0, atol=tolerance * largest, equal_nan=True
    )


def fits(value: Any, right: Any) -> bool:
    """Whether a value has the shape of the right one, axes of size 1 aside."""
    if value is None or right is None or isinstance(value, Failure):
        return False
    return _squeezed(value) == _squeezed(right)


def _squeezed(value):
    """The shape without its axes of size 1."""
    return tuple(n for n in np.shape(value) if n > 1)
