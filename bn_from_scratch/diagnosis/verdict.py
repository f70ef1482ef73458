"""What is said of two batch norms: a `Diagnosis`, as text and as data."""

import dataclasses
import textwrap
from typing import Any

from bn_from_scratch.checker.mistakes import Mistake
from bn_from_scratch.diagnosis.evidence import Deviation
from bn_from_scratch.text import visible

SHOWN = 5  # of the differences


@dataclasses.dataclass(frozen=True)
class Cause:
    """One thing in which two layers differ, and what shows it.

    >>> eps = Mistake("eps", {}, "the two add another eps", "Give both the same eps.")
    >>> Cause(eps, "a and b", "a's eps fits 0.001, b's 1e-05").name
    'eps'
    """

    mistake: Mistake
    side: str  # who does it: "a", "b", or "a and b" where they differ by a number
    evidence: str
    alternatives: tuple[str, ...] = ()  # names that fit the record as well

    @property
    def name(self) -> str:
        """The name of the mistake."""
        return self.mistake.name

    def as_dict(self) -> dict[str, Any]:
        """The cause as JSON has it."""
        return {
            "cause": self.name,
            "side": self.side,
            "evidence": self.evidence,
            "hint": self.mistake.hint,
            "alternatives": list(self.alternatives),
        }


@dataclasses.dataclass
class Diagnosis:
    """What is known of a pair of layers; `str` is for the terminal.

    differences: the largest of each output, relative to its channel's largest value.
    unexplained: what no known cause gives, in words.  notes: what the record lacks.

    >>> print(Diagnosis(("a", "b"), equal=True))
    a and b are equal, as far as rounding allows.
    """

    names: tuple[str, str]
    equal: bool
    causes: list[Cause] = dataclasses.field(default_factory=list)
    differences: dict[str, Deviation] = dataclasses.field(default_factory=dict)
    unexplained: list[str] = dataclasses.field(default_factory=list)
    notes: list[str] = dataclasses.field(default_factory=list)
    layer: str = ""

    def as_dict(self) -> dict[str, Any]:
        """The diagnosis as JSON has it."""
        return {
            "layer": self.layer,
            "equal": self.equal,
            "causes": [cause.as_dict() for cause in self.causes],
            "differences": {k: f.relative for k, f in self.differences.items()},
            "unexplained": self.unexplained,
            "notes": self.notes,
        }

    def __str__(self) -> str:
        one, other = self.names
        pair = (
            f"{self.layer}: {one} and {other}" if self.layer else f"{one} and {other}"
        )
        lines = [visible(f"{pair} {self._summary()}")]
        for cause in self.causes:
            lines += _wrapped(f"- {cause.name}: {cause.evidence}")
            lines += _wrapped(f"  {cause.mistake.hint}")
            if cause.alternatives:
                others = "; ".join(cause.alternatives)
                lines += _wrapped(f"  The record does not tell it from: {others}.")
        for text in (*self.unexplained, *self.notes):
            lines += _wrapped(f"- {text}")
        apart = [d for d in self.differences.values() if d.excess > 1]
        if apart:
            worst = sorted(apart, key=lambda d: -d.excess)[:SHOWN]
            found = "; ".join(map(str, worst))
            lines += _wrapped(f"Largest differences: {found}.")
        return "\n".join(lines)

    __repr__ = __str__  # a notebook shows the last value of a cell by it

    def _summary(self):
        if self.equal:
            return "are equal, as far as rounding allows."
        if not self.causes:
            return "differ: no known cause."
        count = len(self.causes)
        rest = ", and something no known cause explains" if self.unexplained else ""
        return f"differ: {count} cause{'s' * (count > 1)}{rest}."


@dataclasses.dataclass
class ModelDiagnosis:
    """A Diagnosis of every pair of layers in two models.

    >>> print(ModelDiagnosis([Diagnosis(("a", "b"), equal=True, layer="bn1")]))
    bn1: a and b are equal, as far as rounding allows.
    """

    layers: list[Diagnosis]
    notes: list[str] = dataclasses.field(default_factory=list)

    @property
    def equal(self) -> bool:
        """Whether all pairs are, and none is without a partner."""
        return not self.notes and all(layer.equal for layer in self.layers)

    @property
    def causes(self) -> list[Cause]:
        """Those of all pairs, in order."""
        return [cause for layer in self.layers for cause in layer.causes]

    def as_dict(self) -> dict[str, Any]:
        """The diagnoses as JSON has them."""
        return {
            "equal": self.equal,
            "layers": [layer.as_dict() for layer in self.layers],
            "notes": self.notes,
        }

    def __str__(self) -> str:
        notes = [line for note in self.notes for line in _wrapped(f"- {note}")]
        return "\n".join([*map(str, self.layers), *notes])

    __repr__ = __str__


def _wrapped(text):
    # A line begins with "- " or is indented under one.
    return textwrap.wrap(
        visible(text),
        86,
        initial_indent="  ",
        subsequent_indent="    ",
        break_on_hyphens=False,
    )
