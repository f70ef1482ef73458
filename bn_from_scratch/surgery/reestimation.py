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
    """
    found: dict[str, tuple[np.ndarray, np.ndarray, int]] = {}
    for inputs in batches:
        for path, arrays in inputs.items():
            axis = norms[path].settings["axis"]
            for X in arrays:
                n = spec.values_per_channel(X.shape, axis)
                new = *spec.batch_stats(X, axis), n
                so_far = found.get(path, (0 * new[0], 0 * new[1], 0))
                found[path] = spec.cumulate(*so_far, *new)
    return {path: stored(*found[path], norms[path]) for path in found}


def stored(mean: np.ndarray, var: np.ndarray, n: int, norm: Description) -> Statistics:
    """What a layer keeps of statistics over n values."""
    var = spec.unbiased(var, n, norm.settings["correction"])
    return {"moving_mean": mean, "moving_var": var}
