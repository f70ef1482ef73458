"""In prediction batch norm is affine: the linear layer before it can take it in."""

import numpy as np

from bn_from_scratch import spec


def fold(weight, bias, mean, var, gamma, beta, eps, axis=0):
    """Weight and bias of the linear layer that is this one and the batch norm behind.

    weight: any shape, with the output channels on `axis`; bias [C] or None; the others
    [C].  Computed in float64, returned in the dtype of the weight.  (21) (22)
    """
    vectors = (np.asarray(v, np.float64) for v in (mean, var, gamma, beta))
    factor, shift = spec.prediction(*vectors, eps)
    shape = [1] * weight.ndim
    shape[axis] = -1
    bias = np.zeros(factor.shape) if bias is None else bias
    folded = weight * factor.reshape(shape), factor * bias + shift
    return tuple(v.astype(weight.dtype) for v in folded)


def fold_all(fold, pairs, refuse):
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
