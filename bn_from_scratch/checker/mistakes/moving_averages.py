"""Mistakes in the moving averages: equations (5) and (6)."""

import numpy as np

from bn_from_scratch.checker.mistakes.mistake import Mistake


def _root_of_stored(var, n, N, eps):
    return np.sqrt(var)


MOVING = [
    Mistake(
        "momentum weighs the old value",
        {"momentum": lambda momentum: 1 - momentum},
        "momentum weighs the old value",
        "Here momentum is the weight of the new batch: "
        "moving = (1 - momentum) * moving + momentum * batch, equation (5). Keras, "
        "Flax and MXNet use the word for the complement.",
    ),
    Mistake(
        "momentum weighs the old variance",
        {"move_var": lambda old, new, m: m * old + (1 - m) * new},
        "momentum weighs the old value of the moving variance, but not of the mean",
        "Both averages move alike: (1 - momentum) * moving + momentum * batch.",
    ),
    Mistake(
        "momentum weighs the old mean",
        {"move_mean": lambda old, new, m: m * old + (1 - m) * new},
        "momentum weighs the old value of the moving mean, but not of the variance",
        "Both averages move alike: (1 - momentum) * moving + momentum * batch.",
    ),
    Mistake(
        "momentum: 0.1 whatever is asked",
        {"momentum": lambda momentum: 0.1},
        "momentum is 0.1 whatever the argument says",
        "Use the argument momentum.",
    ),
    Mistake(
        "momentum: 0.9 whatever is asked",
        {"momentum": lambda momentum: 0.9},
        "momentum is 0.9 whatever the argument says",
        "Use the argument momentum; it is the weight of the new batch.",
    ),
    Mistake(
        "momentum: 0.01 whatever is asked",
        {"momentum": lambda momentum: 0.01},
        "momentum is 0.01 (the default of Keras and Flax, 0.99 of the old value) "
        "whatever is asked for",
        "Use momentum 0.1, the weight of the new batch: 0.9 in their words.",
    ),
    Mistake(
        "stored variance: unbiased",
        {"stored_var": lambda var, n, N, eps: var * n / (n - 1)},
        "your moving variance takes n/(n-1) times the expected one: you stored the "
        "unbiased variance",
        "Store the biased variance, the one that normalizes (PyTorch's own layer "
        "stores the unbiased one).",
    ),
    Mistake(
        "stored variance: n-1 of images",
        {"stored_var": lambda var, n, N, eps: var * N / (N - 1)},
        "your moving variance takes N/(N-1) times the expected one, N being the number "
        "of examples",
        "Store the biased variance, the one that normalizes.",
    ),
    Mistake(
        "stored variance: standard deviation",
        {"stored_var": _root_of_stored},
        "the moving average is one of the standard deviation, not of the variance",
        "Average the variance; take the root when you normalize.",
    ),
    Mistake(
        "stored variance: with eps",
        {"stored_var": lambda var, n, N, eps: var + eps},
        "eps is stored with the moving variance, so that it is added twice in "
        "prediction",
        "Store var; eps belongs to the root alone.",
    ),
    Mistake(
        "moving averages: replaced",
        {"move_mean": lambda old, new, m: new, "move_var": lambda old, new, m: new},
        "the moving averages are replaced by the batch's statistics, not moved towards "
        "them",
        "moving = (1 - momentum) * moving + momentum * batch, equations (5) and (6).",
    ),
    Mistake(
        "moving averages: no decay",
        {
            "move_mean": lambda old, new, m: old + m * new,
            "move_var": lambda old, new, m: old + m * new,
        },
        "the old averages are not weighed down: they grow with every batch",
        "moving = (1 - momentum) * moving + momentum * batch, equations (5) and (6).",
    ),
    Mistake(
        "moving averages: away from the batch",
        {
            "move_mean": lambda old, new, m: old + m * (old - new),
            "move_var": lambda old, new, m: old + m * (old - new),
        },
        "the moving averages move away from the batch's statistics: a sign is wrong",
        "moving + momentum * (batch - moving) is the same as equation (5).",
    ),
    Mistake(
        "moving mean: not updated",
        {"move_mean": lambda old, new, m: old},
        "the moving mean is never updated",
        "Update both averages in training, equations (5) and (6).",
    ),
    Mistake(
        "moving variance: not updated",
        {"move_var": lambda old, new, m: old},
        "the moving variance is never updated",
        "Update both averages in training, equations (5) and (6).",
    ),
    Mistake(
        "moving averages: not updated",
        {"updates": lambda training: False},
        "the moving averages are never updated",
        "In training, return both averages one batch on, equations (5) and (6).",
    ),
    Mistake(
        "updated twice",
        {"updates": lambda training: 2 * training},
        "the moving averages are updated twice with every batch",
        "One batch, one update: look for a forward that runs twice (activation "
        "checkpointing does).",
    ),
    Mistake(
        "mean and variance swapped",
        {"returned": lambda mean, var: (var, mean)},
        "the mean and the variance are returned in the wrong order",
        "The mean comes first.",
    ),
]
