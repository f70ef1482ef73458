"""The check of exercise 3: right answers pass, wrong ones are named."""

from itertools import chain, combinations, product

import numpy as np
import pytest

pytest.importorskip("torch")

from bn_from_scratch.course.exercises import exercise_3

NOTHING = "Nothing is written yet: replace the `...` above and run this cell again.\n"
PLACES = (1, 2, 3, 4)


def by_size():
    return list(chain(*(combinations(PLACES, k) for k in range(5))))


def by_masks():
    masks = product([True, False], repeat=4)
    return {tuple(i for i, kept in zip(PLACES, m, strict=True) if kept) for m in masks}


def by_pairs(losses, place):
    return np.mean(
        [
            loss - losses[tuple(i for i in choice if i != place)]
            for choice, loss in losses.items()
            if place in choice
        ]
    )


def by_halves(losses, place):
    halves = [
        np.mean([v for c, v in losses.items() if (place in c) is on])
        for on in (True, False)
    ]
    return halves[0] - halves[1]


CHOICES = {
    lambda: by_size()[1:]: ["() is missing"],
    lambda: [c for c in by_size() if len(c) < 2]: [
        "(1, 2) is missing",
        "(1, 3) is missing",
        "(1, 4) is missing",
    ],
    lambda: [*by_size(), (2, 1)]: ["(1, 2) is there more than once"],
    lambda: list(chain(*(combinations(range(4), k) for k in range(2)))): [
        "(0,) is not a choice of the places 1 to 4",
        "(4,) is missing",
        "(1, 2) is missing",
    ],
    lambda: 16: ["the call ended in TypeError: 'int' object is not iterable"],
    lambda: [0, 1]: ["the call ended in TypeError: 'int' object is not iterable"],
}
WORTH = {
    lambda losses, i: -by_pairs(losses, i): [
        "the sign: it is the loss with the place, minus the loss without"
    ],
    lambda losses, i: 8 * by_pairs(losses, i): [
        "that is the sum over the pairs; take the mean"
    ],
    lambda losses, i: losses[i,] - losses[()]: [
        "that compares a place alone with no place; it has eight pairs"
    ],
    lambda losses, i: losses[PLACES] - losses[tuple(j for j in PLACES if j != i)]: [
        "that compares all places with all but one; there are eight pairs"
    ],
    lambda losses, i: np.mean([v for c, v in losses.items() if i in c]): [
        "that is the mean loss of the choices with the place; subtract that of those "
        "without it"
    ],
    lambda losses, i: by_halves(losses, i) / 2: [
        "that compares with the mean over all choices, half of which have the place"
    ],
    lambda losses, i: "much": [
        "the call ended in ValueError: could not convert string to float: 'much'"
    ],
    lambda losses, i: losses[i]: ["the call ended in KeyError: 1"],
}


def verdict(problems):
    return "".join(f"Not yet: {problem}\n" for problem in problems) or "Right.\n"


@pytest.mark.parametrize("answer", [by_size, by_masks])
def test_choices_are_right(answer, capsys):
    assert exercise_3.check(answer)
    assert capsys.readouterr().out == verdict([])


@pytest.mark.parametrize("answer", [by_pairs, by_halves])
def test_worth_is_right(answer, capsys):
    assert exercise_3.check_worth(answer)
    assert capsys.readouterr().out == verdict([])


@pytest.mark.parametrize("answer", CHOICES)
def test_wrong_choices(answer, capsys):
    assert not exercise_3.check(answer)
    assert capsys.readouterr().out == verdict(CHOICES[answer])


@pytest.mark.parametrize("answer", WORTH)
def test_wrong_worth(answer, capsys):
    assert not exercise_3.check_worth(answer)
    assert capsys.readouterr().out == verdict(WORTH[answer])


def test_a_difference_without_a_name(capsys):
    assert not exercise_3.check_worth(lambda losses, i: 0.0)
    message = capsys.readouterr().out
    assert message.startswith("Not yet: place 1: you say 0.0; right is -0.")


@pytest.mark.parametrize("check", [exercise_3.check, exercise_3.check_worth])
@pytest.mark.parametrize("answer", [..., lambda *given: None])
def test_nothing_written(check, answer, capsys):
    assert not check(answer)
    assert capsys.readouterr().out == NOTHING
