"""The check of exercise 2: right answers pass, wrong ones are named."""

import math

import numpy as np
import pytest

pytest.importorskip("torch")

from bn_from_scratch.course.exercises import exercise_2
from bn_from_scratch.course.experiments import Run

NOTHING = "Nothing is written yet: replace the `...` above and run this cell again.\n"


def as_the_course(losses):
    return Run(losses, 0, 0).diverged


def with_a_median(losses):
    end = np.median(losses[-8:])
    return bool(np.isnan(end) or end >= math.log(10))


def every_seed(works, rates, seeds):
    return max((r for r in rates if all(works(r, s) for s in seeds)), default=None)


def from_above(works, rates, seeds):
    for rate in sorted(rates, reverse=True):
        if False not in [works(rate, seed) for seed in seeds]:
            return rate


def up_to_the_first_failure(works, rates, seeds):
    best = None
    for rate in rates:
        if not all(works(rate, seed) for seed in seeds):
            break
        best = rate
    return best


def first_failure(works, rates, seeds):
    return min((r for r in rates if not all(works(r, s) for s in seeds)), default=None)


FAILED = {
    lambda losses: np.mean(losses[-10:]) >= math.log(10): [
        "a comparison with NaN is never true"
    ],
    lambda losses: not np.isfinite(losses[-1]): [
        "a run that ends no better than guessing has failed, even if its loss is a "
        "number"
    ],
    lambda losses: not losses[-1] < math.log(10): [
        "the last batch alone decides; take several"
    ],
    lambda losses: losses[-1] > 100: ["ends in NaN: you say False; right is True"],
    lambda losses: not max(losses) < 5: ["only the end counts: a run may recover"],
    lambda losses: not losses[0] > np.mean(losses[-10:]): [
        "compare with guessing, not with the start"
    ],
    lambda losses: True: ["falls to 0.5: you say True; right is False"],
    lambda losses: losses.mean() > 2: [
        "the call ended in AttributeError: 'list' object has no attribute 'mean'"
    ],
}
LARGEST = {
    lambda works, rates, seeds: max(
        (r for r in rates if any(works(r, s) for s in seeds)), default=None
    ): ["a rate works if it works with every seed"],
    lambda works, rates, seeds: max((r for r in rates if works(r, 0)), default=None): [
        "the first seed is not enough"
    ],
    lambda works, rates, seeds: min(
        (r for r in rates if all(works(r, s) for s in seeds)), default=None
    ): ["that is the smallest rate that works"],
    up_to_the_first_failure: [
        "slow rates fail, too: do not stop at the first that fails"
    ],
    lambda works, rates, seeds: [
        None,
        *(r for r in rates if all(works(r, s) for s in seeds)),
    ][-1]: ["the rates may come in any order"],
    first_failure: ["1 and 2 work, 4 fails: you say 4; right is 2"],
    lambda works, rates, seeds: max(r for r in rates if works(r, seeds)): [
        "the call ended in TypeError: string indices must be integers, not 'list'"
    ],
}


def verdict(problems):
    return "".join(f"Not yet: {problem}\n" for problem in problems) or "Right.\n"


@pytest.mark.parametrize("answer", [as_the_course, with_a_median])
def test_failed_is_right(answer, capsys):
    assert exercise_2.check(answer)
    assert capsys.readouterr().out == verdict([])


@pytest.mark.parametrize("answer", [every_seed, from_above])
def test_largest_is_right(answer, capsys):
    assert exercise_2.check_largest(answer)
    assert capsys.readouterr().out == verdict([])


@pytest.mark.parametrize("answer", FAILED)
def test_wrong_failed(answer, capsys):
    assert not exercise_2.check(answer)
    assert capsys.readouterr().out == verdict(FAILED[answer])


@pytest.mark.parametrize("answer", LARGEST)
def test_wrong_largest(answer, capsys):
    assert not exercise_2.check_largest(answer)
    assert capsys.readouterr().out == verdict(LARGEST[answer])


@pytest.mark.parametrize("check", [exercise_2.check, exercise_2.check_largest])
@pytest.mark.parametrize("answer", [..., lambda *given: None])
def test_nothing_written(check, answer, capsys):
    assert not check(answer)
    assert capsys.readouterr().out == NOTHING
