"""Exercise 3: every choice of places for batch norm, and what each place is worth."""

from collections.abc import Sequence
from itertools import combinations

from bn_from_scratch.course.exercises import Answer, attempt, report
from bn_from_scratch.course.exercises.exercise_2 import Mistakes, judge

Choice = tuple[int, ...]
PLACES: Choice = (1, 2, 3, 4)
CHOICES: list[Choice] = [
    c for k in range(len(PLACES) + 1) for c in combinations(PLACES, k)
]
# Losses in which every place has a part of its own, alone and together with others.
LOSSES: dict[Choice, float] = {
    c: 3.0 + 0.01 * sum(i * i for i in c) - 0.5 * len(c) ** 0.5 for c in CHOICES
}
LOSSES |= {c: LOSSES[c] - 0.4 for c in CHOICES if 4 in c and 2 not in c}


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def without(choice: Choice, place: int) -> Choice:
    return tuple(i for i in choice if i != place)


def pairs(place: int) -> list[tuple[Choice, Choice]]:
    """(choice, the same without the place), for every choice that has it."""
    return [(c, without(c, place)) for c in CHOICES if place in c]


def changes(place: int) -> list[float]:
    """What the place changes in each of its pairs."""
    return [LOSSES[c] - LOSSES[less] for c, less in pairs(place)]


WORTH: Mistakes = {  # a mistake, and what it says about a place
    "the sign: it is the loss with the place, minus the loss without": (
        lambda i: -mean(changes(i))
    ),
    "that is the sum over the pairs; take the mean": lambda i: sum(changes(i)),
    "that compares a place alone with no place; it has eight pairs": lambda i: (
        LOSSES[i,] - LOSSES[()]
    ),
    "that compares all places with all but one; there are eight pairs": lambda i: (
        LOSSES[PLACES] - LOSSES[without(PLACES, i)]
    ),
    "that is the mean loss of the choices with the place; subtract that of those "
    "without it": lambda i: mean([LOSSES[c] for c, _ in pairs(i)]),
    "that compares with the mean over all choices, half of which have the place": (
        lambda i: mean([LOSSES[c] for c, _ in pairs(i)]) - mean([*LOSSES.values()])
    ),
    "that is the best pair, not the mean of all": lambda i: min(changes(i)),
}


def check(choices: Answer) -> bool:
    """`choices()`: every choice of the places 1 to 4, as tuples."""
    found, problems = attempt(choices)
    if found is None:
        return report(problems or None)
    found, problems = attempt(lambda: [tuple(choice) for choice in found])
    if problems:
        return report(problems)
    names = [tuple(sorted(choice, key=str)) for choice in found]
    twice = dict.fromkeys(c for c in names if names.count(c) > 1)
    problems = [f"{c} is there more than once" for c in twice]
    problems += [
        f"{c} is not a choice of the places 1 to 4" for c in names if c not in CHOICES
    ]
    problems += [f"{c} is missing" for c in CHOICES if c not in names]
    return report(problems[:3])


def check_worth(worth: Answer) -> bool:
    """`worth(losses, place)`: what the place changes in the loss, on average."""
    cases = {f"place {i}": (i, near(mean(changes(i)))) for i in PLACES}
    mistakes = {m: lambda i, wrong=wrong: near(wrong(i)) for m, wrong in WORTH.items()}
    return judge(worth, lambda i: near(worth(dict(LOSSES), i)), cases, mistakes)


def near(value: float | None) -> float | None:
    """The value without its rounding error; None stays None."""
    return value if value is None else round(float(value), 6)
