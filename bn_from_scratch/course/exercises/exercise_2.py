"""Exercise 2: when a run has failed, and the largest learning rate that works."""

import math
from collections.abc import Callable, Mapping
from itertools import takewhile
from typing import Any

import numpy as np

from bn_from_scratch.course.exercises import Answer, attempt, report

GUESSING = math.log(10)
Cases = Mapping[str, tuple[Any, Any]]  # {case: (question, right answer)}
Mistakes = Mapping[str, Callable[[Any], Any]]  # {mistake: what it answers}
Table = dict[int, str]  # {rate: "y" or "n" for each seed}
RUNS: Cases = {  # the losses of a run, and whether they mean that it failed
    "falls to 0.5": (np.linspace(2.3, 0.5, 40), False),
    "ends in NaN": ([2.3] * 20 + [math.nan] * 20, True),
    "ends in infinity": ([2.3] * 20 + [math.inf] * 20, True),
    "stays at 2.31": ([2.31] * 40, True),
    "falls from 5 to 2.4": (np.linspace(5, 2.4, 40), True),
    "jumps to 90 and falls to 0.5": ([2.3, 90.0] + [0.5] * 30, False),
    "is at 0.5 until the last batch, which has 2.4": ([0.5] * 39 + [2.4], False),
    "is at 9 until the last batch, which has 2.2": ([9.0] * 39 + [2.2], True),
}
FAILED: Mistakes = {  # a mistake, and what it answers
    "a comparison with NaN is never true": lambda v: np.mean(v[-10:]) >= GUESSING,
    "a run that ends no better than guessing has failed, even if its loss is a number":
        lambda v: not np.isfinite(v).all(),
    "the last batch alone decides; take several": lambda v: not v[-1] < GUESSING,
    "only the end counts: a run may recover": lambda v: not max(v) < 2 * GUESSING,
    "compare with guessing, not with the start": lambda v: not np.mean(v[-10:]) < v[0],
}  # fmt: skip
# {rate: does it work with the seeds 0, 1 and 2?}, and the largest that works
RATES: Cases = {
    "1 and 2 work, 4 fails": ({1: "yyy", 2: "yyy", 4: "nnn"}, 2),
    "1 fails, 2 and 4 work": ({1: "nnn", 2: "yyy", 4: "yyy"}, 4),
    "1 works, 2 with seeds 0 and 2": ({1: "yyy", 2: "yny", 4: "nyn"}, 1),
    "8 fails, 4, 1 and 2 work": ({8: "nnn", 4: "yyy", 1: "yyy", 2: "yyy"}, 4),
    "none works": ({1: "nnn", 2: "ynn"}, None),
}
LARGEST: Mistakes = {
    "a rate works if it works with every seed": lambda t: max(
        working(t, any), default=None
    ),
    "the first seed is not enough": lambda t: max(
        working(t, lambda v: v[0]), default=None
    ),
    "that is the smallest rate that works": lambda t: min(working(t), default=None),
    "slow rates fail, too: do not stop at the first that fails": lambda t: max(
        takewhile(working(t).__contains__, t), default=None
    ),
    "the rates may come in any order": lambda t: [None, *working(t)][-1],
}


def check(failed: Answer) -> bool:
    """`failed(losses)`: whether a run with these losses, one per step, has failed."""
    return judge(failed, lambda v: failed(list(v)), RUNS, FAILED)


def check_largest(largest_rate: Answer) -> bool:
    """`largest_rate(works, rates, seeds)`: the largest that works with every seed."""

    def ask(table: Table) -> Any:
        return largest_rate(lambda r, s: table[r][s] == "y", [*table], [0, 1, 2])

    return judge(largest_rate, ask, RATES, LARGEST)


def judge(
    function: Answer, ask: Callable[[Any], Any], cases: Cases, mistakes: Mistakes
) -> bool:
    """Compare the answers to all cases with the right ones, then with each mistake."""
    given, right = [], [answer for _, answer in cases.values()]
    for question, _ in cases.values():
        answer, problems = attempt(function if function is ... else ask, question)
        if problems:
            return report(problems)
        given.append(answer)
    if all(answer is None for answer in given):
        return report(None)
    for message, mistake in mistakes.items():
        if given == [mistake(question) for question, _ in cases.values()]:
            return report([message])
    pairs = zip(cases, given, right, strict=True)
    wrong = [f"{case}: you say {a}; right is {b}" for case, a, b in pairs if a != b]
    return report(wrong[:1])


def working(table: Table, judge: Callable[[list[bool]], bool] = all) -> list[int]:
    """The rates that work with all of the seeds, or as the judge says."""
    return [rate for rate, seeds in table.items() if judge([s == "y" for s in seeds])]
