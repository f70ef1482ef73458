"""What is said about an answer: a `Verdict`, as text and as data."""

import dataclasses
import inspect
import textwrap
from collections.abc import Iterable
from os import PathLike
from typing import Any

import numpy as np

from bn_from_scratch.checker import adapters, comparison, judge, sandbox, sources, tasks
from bn_from_scratch.checker.mistakes import Mistake
from bn_from_scratch.checker.sandbox import AnswerError, Failure, ObservedAnswer
from bn_from_scratch.text import visible

RIGHT, WRONG, UNWRITTEN = "right", "wrong", "not written yet"
SMALL = 40  # values: an array that can be read


@dataclasses.dataclass
class Finding:
    """What is known about one task of an answer.

    >>> Finding("normalize", UNWRITTEN).as_dict()["status"]
    'not written yet'
    """

    task: str
    status: str  # RIGHT, WRONG or UNWRITTEN
    mistakes: list[Mistake] = dataclasses.field(default_factory=list)
    differences: str = ""  # what no known mistake explains, in words
    before: list[Mistake] = dataclasses.field(default_factory=list)  # known already

    def as_dict(self) -> dict[str, Any]:
        """The finding as JSON has it."""
        return {
            "task": self.task,
            "status": self.status,
            "mistakes": [m.name for m in [*self.mistakes, *self.before]],
            "messages": [m.message for m in [*self.mistakes, *self.before]],
            "differences": self.differences,
        }


@dataclasses.dataclass
class Verdict:
    """What is known about an answer; `str` is for its author.

    >>> print(Verdict("answer.py", "numpy", [Finding("normalize", RIGHT)]))
    normalize: right
    """

    name: str
    framework: str
    findings: list[Finding]
    error: str = ""  # why the answer could not be loaded

    @property
    def right(self) -> bool:
        """Whether something was written, and all of that is right."""
        statuses = [f.status for f in self.findings]
        return not self.error and RIGHT in statuses and WRONG not in statuses

    @property
    def complete(self) -> bool:
        """Whether everything asked for is written and right."""
        return self.right and UNWRITTEN not in [f.status for f in self.findings]

    def as_dict(self) -> dict[str, Any]:
        """The verdict as JSON has it."""
        return {
            "name": self.name,
            "framework": self.framework,
            "right": sum(f.status == RIGHT for f in self.findings),
            "of": len(self.findings),
            "error": self.error,
            "findings": [f.as_dict() for f in self.findings],
        }

    def __str__(self) -> str:
        if self.error:
            return visible(f"{self.name} cannot be run: {self.error}")
        if not self.findings:
            names = ", ".join(tasks.CASES)
            return f"{visible(self.name)} defines none of {names}."
        return "\n".join(line for f in self.findings for line in _lines(f))

    __repr__ = __str__  # a notebook shows the last value of a cell by it


def verdict_on(
    answer: str | PathLike[str] | dict[str, Any],
    name: str,
    framework: str | None = None,
    wanted: Iterable[str] | None = None,
    **limits: int,
) -> Verdict:
    """The Verdict of an answer: a path, or a dict of objects by name.

    wanted: the tasks asked for, else all that it has.
    limits: seconds, memory (MB), as in `sandbox`.
    """
    if isinstance(answer, dict) and all(map(_is_hole, answer.values())):
        return Verdict(name, "", [Finding(task, UNWRITTEN) for task in answer])
    try:
        framework = framework or _framework(answer)
        observed = sandbox.run(answer, framework, wanted, **limits)
    except (AnswerError, SyntaxError, ValueError, ImportError) as error:
        return Verdict(name, framework or "", [], f"{error}")
    return Verdict(name, framework, find_all(observed, framework))


def find_all(observed: ObservedAnswer, framework: str) -> list[Finding]:
    """The Finding of every task, in order: what one got wrong is known to the next."""
    findings, known = [], []
    for task, outputs in observed.items():
        findings.append(_find(task, framework, outputs, known))
        known += findings[-1].mistakes
    return findings


def _find(task, framework, outputs, known):
    """The Finding of one task."""
    if outputs is None or _unwritten(outputs):
        return Finding(task, UNWRITTEN)
    if isinstance(outputs, Failure):
        return Finding(task, WRONG, differences=str(outputs))
    judged = judge.judge(task, framework, outputs, known)
    if judged.right:
        return Finding(task, RIGHT)
    new = [m for m in judged.mistakes if m not in known]
    before = [m for m in judged.mistakes if m in known]
    left = _describe(judged.unexplained[0]) if judged.unexplained else ""
    return Finding(task, WRONG, new, left, before)


def _is_hole(thing):
    """Whether a function, or the call of a layer, has an empty body."""

    def empty(): ...

    def documented():
        """A docstring moves the constants of the code."""

    if isinstance(thing, type):
        calls = [vars(thing).get(n) for n in ("forward", "call", "__call__")]
        thing = next(filter(None, calls), None)
    code = getattr(inspect.unwrap(thing), "__code__", None) if thing else None
    holes = [f.__code__.co_code for f in (empty, documented)]
    return code is not None and code.co_code in holes


def _unwritten(outputs):
    """Whether nothing but holes was found."""
    if isinstance(outputs, Failure):
        return False
    values = []
    for case in outputs.values():
        values += [case] if isinstance(case, Failure) else list(case.values())[:2]
    return bool(values) and all(
        isinstance(v, Failure) and v.type == "NotImplementedError" for v in values
    )


def _describe(difference):
    """One difference in words: the input, what was expected, what came."""
    case, lines = difference.case, []
    for name, array in case.arguments.items():
        if case.outputs and array.size <= SMALL:
            lines.append(f"{name} = {_array(array)}")
    options = ", ".join(f"{k}={v}" for k, v in case.options.items())
    lines.append(f"{difference.output} ({case.name}{', ' if options else ''}{options})")
    if isinstance(difference.observed, Failure):
        return "\n".join([*lines, f"raised {difference.observed}"])
    if difference.observed is None:
        return "\n".join([*lines, "is missing"])
    expected, observed = np.asarray(difference.expected), difference.observed
    if not comparison.fits(observed, expected):
        lines.append(f"should have shape {expected.shape}, has {observed.shape}")
    if max(expected.size, observed.size) <= SMALL:
        lines += [f"should be {_array(expected)}", f"is        {_array(observed)}"]
    elif comparison.fits(observed, expected):
        lines += _worst(observed.reshape(expected.shape), expected, case.tolerance)
    return "\n".join(lines)


def _worst(observed, expected, tolerance):
    off = np.nan_to_num(np.abs(observed - expected), nan=np.inf)
    place = np.unravel_index(off.argmax(), off.shape)
    where = ", ".join(map(str, place))
    differ = np.mean(off > tolerance * np.abs(expected).max())
    return [
        f"differs in {differ:.0%} of its values, most at [{where}]: "
        f"should be {expected[place]:.6g}, is {observed[place]:.6g}"
    ]


def _array(array):
    text = np.array2string(np.asarray(array), precision=4, suppress_small=True)
    return text.replace("\n", "\n    ")


def _lines(finding):
    """What is printed about one task."""
    yield f"{finding.task}: {finding.status}"
    for mistake in finding.mistakes:
        yield from _wrapped(f"  - {mistake.message}.")
        yield from _wrapped(f"    {mistake.hint}")
    for mistake in finding.before:
        yield from _wrapped(f"  - as above: {mistake.message}.")
    if finding.differences:
        known = finding.mistakes or finding.before
        yield "  - and something that is no known mistake:" if known else "  - this:"
        yield from (f"    {visible(v)}" for v in finding.differences.splitlines())


def _wrapped(text):
    return textwrap.wrap(text, 88, subsequent_indent="    ")


def _framework(answer):
    if isinstance(answer, dict):
        return adapters.framework_of_objects(answer.values())
    return adapters.framework_of_source(sources.code(answer))
