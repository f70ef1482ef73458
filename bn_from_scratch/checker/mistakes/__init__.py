"""The known mistakes, as data: what each changes in the spec, and what to say about it.

To add one, add an entry to the list of its subject: a name, the steps of `model.Steps`
that the mistake replaces, a message that says what was done, and a hint towards the
right thing.  The judge tries every entry, alone and together with others; nothing else
needs to know of it.
"""

import dataclasses
from collections.abc import Iterable

from bn_from_scratch.checker.mistakes.backward import BACKWARD, GRADIENTS
from bn_from_scratch.checker.mistakes.layer import LAYER
from bn_from_scratch.checker.mistakes.mistake import Mistake
from bn_from_scratch.checker.mistakes.modes import MODES
from bn_from_scratch.checker.mistakes.moving_averages import MOVING
from bn_from_scratch.checker.mistakes.normalization import NORMALIZATION
from bn_from_scratch.checker.mistakes.statistics import STATISTICS
from bn_from_scratch.checker.model import RIGHT, Steps

__all__ = ["BACKWARD", "LAYER", "MISTAKES", "Mistake", "together"]


def __dir__() -> list[str]:
    return __all__


MISTAKES: list[Mistake] = [
    *STATISTICS,
    *NORMALIZATION,
    *GRADIENTS,
    *MOVING,
    *MODES,
    *BACKWARD,
    *LAYER,
]


def together(mistakes: Iterable[Mistake]) -> Steps | None:
    """The steps of several mistakes at once; None where they contradict each other."""
    steps = {}
    for mistake in mistakes:
        for step, wrong in mistake.steps.items():
            if step == "accepts":
                wrong = (*steps.get(step, ()), *wrong)
            elif step in steps:
                return None
            steps[step] = wrong
    return dataclasses.replace(RIGHT, **steps)
