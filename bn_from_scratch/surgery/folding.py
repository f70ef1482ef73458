"""In prediction batch norm is affine: the linear layer before it can take it in."""

from collections.abc import Callable
from typing import Any

import numpy as np

from bn_from_scratch import spec


def fold(
    weight: np.ndarray,
    bias: np.ndarray | None,
    mean: np.ndarray,
    var: np.ndarray,
    gamma: np.ndarray,
    beta: np.ndarray,
    eps: float,
    axis: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Weight and bias of the linear layer that is this one and the batch norm behind.

    weight: any shape, with the output channels on `axis`; bias [C] or None; the others
    [C].  Computed in float64, returned in the dtype of the weight.  (21) (22)
    """
    mean, var, gamma, beta = (
        np.asarray(v, np.float64) for v in (mean, var, gamma, beta)
    )
    factor, shift = spec.prediction(mean, var, gamma, beta, eps)
    shape = [1] * weight.ndim
    shape[axis] = -1
    bias = np.zeros(factor.shape) if bias is None else bias
    folded, bias = weight * factor.reshape(shape), factor * bias + shift
    return folded.astype(weight.dtype), bias.astype(weight.dtype)


def fold_all(
    fold: Callable[[list[Any]], Any],
    pairs: list[Any],
    refuse: Callable[[Any, ValueError], Exception],
) -> Any:
    """What `fold(pairs)` gives; ValueError names the pair at fault.

    refuse(pair, error) -> the error to raise for a pair that alone cannot be folded.
    """
    try:
        return fold(pairs)
    except ValueError as error:
        for reason in at_fault(fold, pairs, refuse).values():
            raise reason from None
        raise error


def at_fault(
    fold: Callable[[list[Any]], Any],
    pairs: list[Any],
    refuse: Callable[[Any, ValueError], Exception],
) -> dict[int, Exception]:
    """{place in the list: error} of the pairs that alone cannot be folded."""
    found = {}
    for place, pair in enumerate(pairs):
        try:
            fold([pair])
        except ValueError as error:
            found[place] = refuse(pair, error)
    return found


def foldable(
    fold: Callable[[list[Any]], Any],
    plan: dict[str, Any],
    refused: dict[str, ValueError],
    refuse: Callable[[Any, ValueError], Exception],
    partial: bool,
) -> tuple[list[Any], dict[str, str]]:
    """[pairs to fold], and {path: reason} of the batch norms that stay.

    plan: {path of a batch norm: pair}, which `fold` proves.  refused: the others, with
    the reason.  Unless `partial`, ValueError for the first that cannot be folded.
    """
    pairs = list(plan.values())
    if not partial:
        for error in refused.values():
            raise error
        fold_all(fold, pairs, refuse)
        return pairs, {}
    left = {path: str(error) for path, error in refused.items()}
    try:
        fold(pairs)
    except ValueError:
        faults = at_fault(fold, pairs, refuse)
        left |= {path: str(faults[i]) for i, path in enumerate(plan) if i in faults}
        pairs = [pair for i, pair in enumerate(pairs) if i not in faults]
        fold(pairs)
    return pairs, left
