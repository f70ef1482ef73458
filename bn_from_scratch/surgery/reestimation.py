"""Pool the inputs of every batch norm of a model over the batches of a data set."""

from collections.abc import Iterable

import numpy as np

from bn_from_scratch import spec
from bn_from_scratch.surgery.description import Description

Inputs = dict[str, list[np.ndarray]]  # {path: X, ...}, what a batch norm was given
Statistics = dict[str, np.ndarray]  # {"moving_mean": [C], "moving_var": [C]}


def pooled(
    batches: Iterable[Inputs], norms: dict[str, Description]
) -> dict[str, Statistics]:
    """{path: {"moving_mean", "moving_var"}} of all values in all batches, as stored.

    batches: iterable of {path: [X, ...]}, what each batch norm was given, in NumPy.
    norms: {path: Description}.  In float64, by the law of total variance (14)-(16);
    the variance is unbiased where the layer stores that.
    Raises ValueError where nothing is given, or to no batch norm.
    """
    found: dict[str, tuple[np.ndarray, np.ndarray, int]] = {}
    count = 0
    for inputs in batches:
        count += 1
        for path, arrays in inputs.items():
            axis = norms[path].settings["axis"]
            for X in arrays:
                n = spec.values_per_channel(X.shape, axis)
                if n == 0:
                    continue
                new = *spec.batch_stats(np.asarray(X, np.float64), axis), n
                so_far = found.get(path, (0 * new[0], 0 * new[1], 0))
                found[path] = spec.cumulate(*so_far, *new)
    check_found(count, found)
    return {path: stored(*found[path], norms[path]) for path in found}


def check_found(count: int, found: Iterable[str]) -> None:
    """Raise ValueError if there was no batch, or none that reached a batch norm."""
    if count == 0:
        raise ValueError(
            "there must be a batch at least, to take statistics of; there is none "
            "(a generator can be read once)"
        )
    if not found:
        raise ValueError(
            "a batch norm must be given values, to take statistics of; none is: "
            "all are frozen, not called, or called with an empty batch"
        )


def stored(mean: np.ndarray, var: np.ndarray, n: int, norm: Description) -> Statistics:
    """What a layer keeps of statistics over n values."""
    var = spec.unbiased(var, n, norm.settings["correction"])
    return {"moving_mean": mean, "moving_var": var}
