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
    except ValueError:
        for pair in pairs:
            try:
                fold([pair])
            except ValueError as error:
                raise refuse(pair, error) from None
        raise
