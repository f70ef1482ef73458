"""The known causes: the checker's mistakes, and what is no mistake of a student.

A cause is a `checker.mistakes.Mistake`: the steps of the spec that it replaces, and
words.  To add one, add an entry, to the checker's list if an answer may make the
mistake, else to CONDITIONS; the search tries every entry, alone and in pairs.  What two
layers may differ in without a replaced step is in NUMBERS and GIVEN: the numbers are
fitted, the rest is read off.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from bn_from_scratch.checker.mistakes import LAYER, MISTAKES, Mistake
from bn_from_scratch.checker.mistakes import together as checker_together
from bn_from_scratch.checker.model import Steps

BY_NAME = {m.name: m for m in MISTAKES}
SWAPPED = BY_NAME["momentum weighs the old value"]
TWICE = BY_NAME["updated twice"]
OVERFLOW = BY_NAME["variance in 16 bits"]

BORDERS = (1, 2, 3)  # of zeros, that may have been padded

NUMBERS = {
    "eps": Mistake(
        "eps",
        {},
        "the two add another eps to the variance",
        "Give both the same eps: 1e-5 is the default of PyTorch, Flax and Gluon, 1e-3 "
        "that of Keras and of MXNet's raw operator.",
    ),
    "momentum": Mistake(
        "momentum",
        {},
        "the two weigh a new batch differently in the moving averages",
        "Give both the same weight of the new batch: momentum in PyTorch, 1 - momentum "
        "in Keras, Flax and MXNet.",
    ),
}

GIVEN = {
    "order": Mistake(
        "parameter order",
        {},
        "the parameters and statistics are the other layer's under other names",
        "Port them by name: the order of the arrays is not the same everywhere, and "
        "without beta (center=False) all that follow move up by one.",
    ),
    "values": Mistake(
        "other parameters",
        {},
        "the two start from other parameters or statistics",
        "Give both the same gamma, beta, moving mean and moving variance.",
    ),
    "padding": Mistake(
        "padding mode",
        {},
        "what is normalized has another height and width: the layer before pads in one "
        "only",
        'Give both convolutions the same padding: Flax\'s default is "SAME", that of '
        'the others "VALID".',
    ),
    "input": Mistake(
        "other input",
        {},
        "the two were not given the same input",
        "Record both on the same X and dY.",
    ),
}


def _loads(name, loaded, what):
    return Mistake(
        f"parameter order: {name}",
        {"loaded": loaded},
        f"what it was given is loaded in another order: {what}",
        GIVEN["order"].hint,
    )


def _masked(X, axes):
    """Sum over the positions where some channel is not 0, and how many they are."""
    valid = (np.real(X) != 0).any(1, keepdims=True)
    n = np.broadcast_to(valid, X.shape).sum(axes, keepdims=True)
    return valid, np.maximum(n, 1)


def _mean_of_valid(X, axes):
    valid, n = _masked(X, axes)
    return (X * valid).sum(axes, keepdims=True) / n


def _var_of_valid(X, mean, axes):
    valid, n = _masked(X, axes)
    return (np.square(X - mean) * valid).sum(axes, keepdims=True) / n


CONDITIONS = [
    Mistake(
        "updated in backward",
        {
            "updates": lambda training: False,
            "updates_in_backward": lambda training: training,
        },
        "the moving averages move in the backward, not in the forward",
        "Without a backward they stay, and two backwards move them twice: compare "
        "after a whole step.",
    ),
    Mistake(
        "updated in backward too",
        {"updates_in_backward": lambda training: training},
        "the moving averages move in the forward and once more in the backward",
        "Activation checkpointing runs the forward again in the backward: keep the "
        "second run from moving them.",
    ),
    Mistake(
        "momentum pools",
        {"pools": True},
        "the moving averages are the mean over all batches so far",
        "PyTorch's momentum=None does this; give both a number.",
    ),
    Mistake(
        "one-pass variance",
        {"cancels": True},
        "the variance is taken in one pass, as E[X^2] - E[X]^2, and cancels where the "
        "mean is large",
        "Subtract the mean before squaring (Flax: use_fast_variance=False).",
    ),
    *(
        Mistake(
            f"padding: a border of {k} counted",
            {"border": k},
            f"a border of {k} zeros around each X is counted into the statistics",
            "Pad after the normalization, or leave the padded positions out.",
        )
        for k in BORDERS
    ),
    Mistake(
        "padding: zeros left out",
        {"mean": _mean_of_valid, "var": _var_of_valid},
        "positions where all channels are 0 are left out of the statistics",
        "A mask does this: give both the same one.",
    ),
    _loads(
        "no beta",
        lambda g, b, m, v: (g, m, v, np.ones_like(v)),
        "beta is the moving mean, and the moving mean the variance",
    ),
    _loads(
        "no gamma",
        lambda g, b, m, v: (b, m, v, np.ones_like(v)),
        "gamma is beta, beta the moving mean, and the moving mean the variance",
    ),
    _loads(
        "beta first",
        lambda g, b, m, v: (b, g, m, v),
        "gamma and beta are exchanged",
    ),
    _loads(
        "variance first",
        lambda g, b, m, v: (g, b, v, m),
        "the moving mean and variance are exchanged",
    ),
    _loads(
        "statistics first",
        lambda g, b, m, v: (m, v, g, b),
        "gamma is the moving mean, beta the variance, and the other way round",
    ),
    # Of an array that is channels first, whatever the layout of the layer was.
    Mistake(
        "axes: per row",
        {
            "axes": lambda ndim, c: (
                (0, 1, *range(3, ndim)) if ndim > 3 else (0, 2)[: ndim - 1]
            )
        },
        "one mean per image row: the row's axis was taken for the channels'",
        BY_NAME["axes: per image row"].hint,
    ),
]

# The numbers are fitted; how gradients are asked for is the same in every record.
_NOT_RECORDED = (
    "eps: 1e-5 whatever is asked",
    "eps: 1e-3 whatever is asked",
    "eps: 1e-12 whatever is asked",
    "eps: missing",
    "momentum: 0.1 whatever is asked",
    "momentum: 0.9 whatever is asked",
    "momentum: 0.01 whatever is asked",
    "mode read from the gradient",
    "training needs a gradient",
    SWAPPED.name,
)

CAUSES = [
    m
    for m in MISTAKES
    if m.name not in _NOT_RECORDED and (m not in LAYER or "overflows" in m.steps)
] + CONDITIONS

# In a comparison a framework's custom is no mistake: what to say in place of the
# checker's message, and whose custom it is.
CUSTOMS = {
    "stored variance: unbiased": "stores the unbiased variance, n/(n-1) times the one "
    "it normalizes by (PyTorch's custom)",
    "updated in backward": "moves its averages in the backward, not in the forward "
    "(MXNet's custom)",
    "one-pass variance": "takes the variance in one pass, as E[X^2] - E[X]^2, which "
    "cancels where the mean is large (Flax's default)",
    "training ignored: never training": "is frozen: in training it normalizes with the "
    "moving averages and leaves them alone",
    "gamma missing": "has gamma fixed at 1 (the default of MXNet's raw operator, "
    "fix_gamma)",
    "momentum pools": "averages over all batches so far (PyTorch's momentum=None)",
    "batch statistics in prediction": "predicts with the statistics of the batch "
    "(PyTorch's track_running_stats=False)",
    "updated twice": "moves its averages twice with every batch",
    "moving averages: not updated": "never moves its averages",
}
EPS_CUSTOMS = {1e-3: "Keras's default", 1e-5: "the default elsewhere"}


def said_of(mistake: Mistake, side: str) -> str:
    """What a side does, in words.  -> "b stores the unbiased variance, ..." """
    if mistake.name in CUSTOMS:
        return f"{side} {CUSTOMS[mistake.name]}"
    return f"{side}: {mistake.message}"


def together(mistakes: Sequence[Mistake]) -> Steps | None:
    """The steps of several causes at once; None where they contradict each other.

    Two may both say when the averages move: one in training, the other in prediction.
    """
    updates = [m.steps["updates"] for m in mistakes if "updates" in m.steps]
    if len(updates) < 2:
        return checker_together(mistakes)
    said = {t: {f(t) for f in updates} - {t} for t in (True, False)}
    if any(len(others) > 1 for others in said.values()):
        return None
    when = {t: next(iter(others), t) for t, others in said.items()}
    rest = [
        dataclasses.replace(
            m, steps={k: v for k, v in m.steps.items() if k != "updates"}
        )
        for m in mistakes
    ]
    steps = checker_together(rest)
    return steps and dataclasses.replace(steps, updates=when.__getitem__)
