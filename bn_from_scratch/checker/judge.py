"""Name the mistakes of an answer from what it answered.

An answer is right where it agrees with the spec.  Where it does not, the smallest set
of known mistakes is looked for under which the spec answers the same.
"""

import dataclasses
import itertools

import numpy as np

from bn_from_scratch.checker import tasks
from bn_from_scratch.checker.mistakes import MISTAKES, together
from bn_from_scratch.checker.model import RIGHT, projected
from bn_from_scratch.checker.sandbox import Failure

TRIPLES = 3000  # at most, of mistakes tried together after every one and every pair


@dataclasses.dataclass(frozen=True)
class Difference:
    """One output that is not what the spec says."""

    case: object
    output: str
    expected: np.ndarray
    observed: object  # array or Failure


@dataclasses.dataclass
class Judgement:
    """What is known about one task: mistakes by name, differences they leave open."""

    mistakes: list
    differences: list  # all, the smallest case first
    unexplained: list

    @property
    def right(self):
        return not self.differences


class Task:
    """The observations of one task beside what the spec says under given mistakes."""

    def __init__(self, name, framework, observed):
        self.name, self.framework = name, framework
        self.cases = tasks.cases(name, framework)
        self.tolerances = {case.name: case.tolerance for case in self.cases}
        self.raw, self.observed = {}, {}
        for case in self.cases:
            outputs = observed.get(case.name, Failure("Missing", "no answer"))
            for output, _ in tasks.expected(name, case, framework, RIGHT):
                failed = isinstance(outputs, Failure)
                value = outputs if failed else outputs.get(output)
                self.raw[case.name, output] = value
                self.observed[case.name, output] = directed(output, value)
        self.right = dict(self.values([]))
        self.wrong = {k for k, v in self.right.items() if not self.same(k, v)}

    def same(self, key, value):
        """Whether a value is the observed one, to the tolerance of its case."""
        return same(self.observed[key], value, self.tolerances[key[0]])

    def values(self, mistakes):
        """Yield (key, value) under these mistakes; where it cannot be, (case, None)."""
        steps = together(mistakes)
        for case in self.cases:
            with np.errstate(all="ignore"):
                outputs = tasks.expected(self.name, case, self.framework, steps)
                try:
                    for output, value in outputs:
                        yield (case.name, output), np.real(value())
                except ValueError:  # shapes that do not go together
                    yield (case.name, None), None

    def to_show(self, key):
        """What is right, in full."""
        case = next(case for case in self.cases if case.name == key[0])
        if key[1] in tasks.DIRECTED:
            return tasks.whole_gradient(self.name, case, self.framework)
        return self.right[key]

    def explained(self, mistakes):
        """Whether these mistakes give every output that was observed."""
        return all(self._agrees(key, value) for key, value in self.values(mistakes))

    def _agrees(self, key, value):
        if key[1] is None:  # the spec cannot go on: the answer cannot be right either
            return any(k[0] == key[0] for k in self.wrong)
        observed, right = self.observed[key], self.right[key]
        # Both malformed: an answer need not break in the way the spec would.
        broken = not fits(observed, right) and not fits(value, right)
        return broken or self.same(key, value)

    def agreement(self, mistakes):
        """The keys whose observed values these mistakes give."""
        found = self.values(mistakes)
        return {k for k, v in found if k[1] and self.same(k, v)}

    def changed(self, mistakes):
        """The keys that these mistakes change."""
        found, seen = set(), set()
        for key, value in self.values(mistakes):
            seen.add(key)
            right, tolerance = self.right.get(key), self.tolerances[key[0]]
            if key[1] and not same(value, right, tolerance):
                found.add(key)
        return found | (self.right.keys() - seen)


def judge(name, framework, observed, known=()):
    """The Judgement of one task; `known` are mistakes found in earlier ones."""
    task = Task(name, framework, observed)
    if not task.wrong:
        return Judgement([], [], [])
    found, left = explain(task, list(known))
    cases = {case.name: case for case in task.cases}
    differences = [
        Difference(cases[key[0]], key[1], task.to_show(key), task.raw[key])
        for key in task.right
        if key in task.wrong
    ]
    unexplained = [d for d in differences if (d.case.name, d.output) in left]
    return Judgement(found, differences, unexplained)


def explain(task, known):
    """(mistakes, wrong keys that they leave open): the fewest that explain the most."""
    effects = {m.name: task.changed([m]) for m in MISTAKES}
    relevant = [m for m in MISTAKES if effects[m.name] & task.wrong]
    known = [m for m in known if m in relevant]
    for mistakes in [known, *([m] for m in relevant)]:
        if explains(task, mistakes):
            return mistakes, set()
    grown, left = grow(task, known, relevant)
    if not left and len(grown) <= 2:
        return grown, left
    for mistakes in map(list, itertools.combinations(relevant, 2)):
        if explains(task, mistakes):
            return mistakes, set()
    if not left:
        return grown, left
    partial = [m for m in relevant if task.agreement([m]) & task.wrong]
    triples = itertools.combinations(partial, 3)
    for mistakes in map(list, itertools.islice(triples, TRIPLES)):
        if explains(task, mistakes):
            return mistakes, set()
    return grown, left


def explains(task, mistakes):
    """Explained, and by a value that the right answer does not have."""
    return (
        bool(mistakes)
        and together(mistakes) is not None
        and task.explained(mistakes)
        and bool(task.agreement(mistakes) & task.wrong)
    )


def grow(task, known, relevant):
    """Add one mistake after the other, each time the one that mends most outputs."""
    found, left = [], task.wrong
    best = known
    while best is not None:
        if best:
            found, left = best, task.wrong - task.agreement(best)
        best, fewest = None, len(left)
        for mistake in relevant:
            mistakes = [*found, mistake]
            if mistake in found or together(mistakes) is None:
                continue
            still = task.wrong - task.agreement(mistakes)
            if len(still) < fewest and not task.changed(mistakes) - task.wrong:
                best, fewest = mistakes, len(still)
        if not left:
            break
    return found, left


def fits(value, right):
    """Whether a value has the shape of the right one, axes of size 1 aside."""
    return value is not None and squeezed(value) == squeezed(right)


def squeezed(value):
    return (
        None
        if isinstance(value, Failure)
        else tuple(n for n in np.shape(value) if n > 1)
    )


def same(observed, expected, tolerance):
    """Equal in shape, axes of size 1 aside, and in value, relative to the largest."""
    if observed is None or expected is None or not fits(observed, expected):
        return False
    observed, expected = np.ravel(observed), np.ravel(expected)
    finite = expected[np.isfinite(expected)]
    bound = tolerance * max(np.abs(finite).max(initial=0), 1e-3)
    return np.allclose(observed, expected, rtol=0, atol=bound, equal_nan=True)


def directed(output, value):
    """What is compared of an observed output: of dX its products with directions."""
    if output not in tasks.DIRECTED or isinstance(value, Failure) or value is None:
        return value
    return projected(value)
