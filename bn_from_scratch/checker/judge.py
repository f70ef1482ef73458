"""Name the mistakes of an answer from what it answered.

An answer is right where it agrees with the spec.  Where it does not, the smallest set
of known mistakes is looked for under which the spec answers the same.
"""

import dataclasses
import itertools
from collections.abc import Iterable

import numpy as np

from bn_from_scratch.checker import tasks
from bn_from_scratch.checker.cases import Case
from bn_from_scratch.checker.comparison import Comparison, Observed
from bn_from_scratch.checker.mistakes import MISTAKES, Mistake, together
from bn_from_scratch.checker.sandbox import Failure, ObservedTask

TRIPLES = 3000  # at most, of mistakes tried together after every one and every pair


@dataclasses.dataclass(frozen=True)
class Difference:
    """One output that is not what the spec says.

    >>> case = tasks.cases("batch_stats", "numpy")[0]
    >>> Difference(case, "mean", np.zeros(2), None).case.name
    '2-D'
    """

    case: Case
    output: str
    expected: np.ndarray
    observed: Observed


@dataclasses.dataclass
class Judgement:
    """What is known about one task: its mistakes, and differences they leave open.

    The difference of the smallest case comes first.

    >>> missing = judge("batch_stats", "numpy", {})
    >>> missing.right, missing.mistakes, missing.unexplained[0].output
    (False, [], 'mean')
    """

    right: bool
    mistakes: list[Mistake] = dataclasses.field(default_factory=list)
    unexplained: list[Difference] = dataclasses.field(default_factory=list)


def judge(
    name: str, framework: str, observed: ObservedTask, known: Iterable[Mistake] = ()
) -> Judgement:
    """The Judgement of one task; `known` are mistakes found in earlier ones."""
    task = Comparison(name, framework, observed)
    if not task.wrong:
        return Judgement(True)
    mistakes, left = _explain(task, list(known))
    unexplained = [
        Difference(task.cases[key[0]], key[1], task.to_show(key), task.raw[key])
        for key in task.right
        if key in left
    ]
    if name in tasks.SCRIPTS and any(
        isinstance(d.observed, Failure) for d in unexplained
    ):
        # What a layer answers after a call that failed says nothing of its own.
        mistakes = [m for m in mistakes if m in known]
    return Judgement(False, mistakes, unexplained)


def _explain(task, known):
    """(mistakes, wrong keys that they leave open): the fewest that explain the most."""
    relevant = [m for m in MISTAKES if task.changed([m]) & task.wrong]
    known = [m for m in known if m in relevant]
    for mistakes in [known, *([m] for m in relevant)]:
        if _explains(task, mistakes, known):
            return mistakes, set()
    grown, left = _grow(task, known, relevant)
    if not left and len(grown) <= 2:
        return grown, left
    for mistakes in map(list, itertools.combinations(relevant, 2)):
        if _explains(task, mistakes, known):
            return mistakes, set()
    if not left:
        return grown, left
    partial = [m for m in relevant if task.agreement([m]) & task.wrong]
    triples = itertools.combinations(partial, 3)
    for mistakes in map(list, itertools.islice(triples, TRIPLES)):
        if _explains(task, mistakes, known):
            return mistakes, set()
    return grown, left


def _explains(task, mistakes, known):
    """Whether nothing speaks against these mistakes and something wrong for them."""
    if not mistakes or together(mistakes) is None:
        return False
    found = task.predictions(mistakes)
    broken = any("axes" in m.steps for m in known if m in mistakes)
    if not all(task.allows(key, value, broken) for key, value in found):
        return False
    return mistakes == known or bool(task.agreement(mistakes) & task.wrong)


def _grow(task, known, relevant):
    """Add one mistake after the other, each time the one that mends most outputs."""
    found, left, best = [], task.wrong, known
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
    return found, left
