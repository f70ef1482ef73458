"""Look for the fewest causes under which the spec answers what a side answered."""

import dataclasses
import itertools

from bn_from_scratch.diagnosis import numbers
from bn_from_scratch.diagnosis.causes import CAUSES, OVERFLOW
from bn_from_scratch.diagnosis.prediction import GRADIENTS, Hypothesis, Key
from bn_from_scratch.diagnosis.side import Side

TRIED = 300  # sets of causes at most, of one size and at the same numbers


@dataclasses.dataclass
class Explanation:
    """What a side is taken to be, and what that leaves open.

    >>> from bn_from_scratch.diagnosis.recording import recordings
    >>> record = {"X": [[-1.0], [1.0]], "Y": [[-1.0], [1.0]]}
    >>> explain(Side(recordings(record)[""], "a")).hypothesis.eps
    0.0
    """

    hypothesis: Hypothesis
    left: set[Key]  # keys that it does not explain
    alternatives: list[Hypothesis] = dataclasses.field(default_factory=list)


def explain(side: Side) -> Explanation:
    """The Explanation of a side: numbers to expect before others, fewer causes first.

    A number that only fits counts as a cause.  The 16-bit call comes last: one cause
    shows nowhere else.
    """
    whole, side = side, side.without_half()
    usual, odd = numbers.candidates(side)
    levels = (0, usual), (1, usual), (0, odd), (2, usual), (1, odd), (3, usual)
    for size, pairs in levels:
        for eps, momentum in pairs:
            found = _explaining(side, size, Hypothesis((), eps, momentum))
            for more in ((), (OVERFLOW,)):
                fits = [h.plus(*more) for h in found if whole.explained(h.plus(*more))]
                if fits:
                    return Explanation(fits[0], set(), fits[1:])
    return _grow(whole, usual + odd)


def _explaining(side, size, right):
    """Every hypothesis with so many mistakes that explains all, at these numbers."""
    if size == 0:
        return [right] if side.explained(right) else []
    ones = [one for one in map(right.plus, CAUSES) if side.predicted(one)]
    if size == 1:
        return [one for one in ones if side.explained(one)]
    table = [_Effect(side, one, right) for one in ones]
    wrong = {key for key in side.left(right) if key[1] not in GRADIENTS}
    sets = itertools.combinations([e for e in table if e.changed], size)
    several = (
        right.plus(*(m for effect in effects for m in effect.hypothesis.mistakes))
        for effects in sets
        if _may_explain(effects, wrong)
    )
    possible = itertools.islice((h for h in several if h.possible), TRIED)
    return [h for h in possible if side.explained(h)]


class _Effect:
    """What one mistake does to the outputs of a side."""

    def __init__(self, side, hypothesis, right):
        self.hypothesis = hypothesis
        self.changed = side.changed(hypothesis, right)
        # Where it alone changes something it must be what was observed; another may
        # change that by less than what is told apart.
        self.missed = {k for k in self.changed if not side.matches(k, hypothesis, 3)}


def _may_explain(effects, wrong):
    """Whether several mistakes may give all that is wrong: cheap, to try few sets."""
    if not wrong <= set().union(*(e.changed for e in effects)):
        return False
    return all(
        effect.missed <= set().union(*(e.changed for e in effects if e is not effect))
        for effect in effects
    )


def _grow(side, pairs):
    """Add one cause after the other, each time the one that leaves the least open."""

    def open_keys(hypothesis):
        return len(side.left(hypothesis))

    best = min((Hypothesis((), *pair) for pair in pairs), key=open_keys)
    while True:
        tries = [best.plus(cause) for cause in CAUSES if cause not in best.mistakes]
        better = min((t for t in tries if t.possible), key=open_keys)
        if not side.left(better) < side.left(best):
            return Explanation(best, side.left(best))
        best = better
