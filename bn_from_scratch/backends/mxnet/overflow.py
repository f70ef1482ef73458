"""Statistics that overflow: refused where Python may look at them, NaN elsewhere."""

import numpy
from mxnet import np
from mxnet.numpy import ndarray

from bn_from_scratch import checks


def in_range(X: ndarray, var: ndarray) -> ndarray:
    """var [C], if it fits its dtype.  Else ValueError, or NaN where none can be raised.

    X that holds NaN or infinity passes: its statistics are NaN, as everywhere.
    """
    if var.ctx.device_type != "cpu":  # it would have to be waited for
        return np.where(np.isfinite(var), var, np.full_like(var, numpy.nan))
    value = var.detach().asnumpy()
    if not numpy.isfinite(value).all():
        largest = abs(X.detach().asnumpy()).max()
        if numpy.isfinite(largest):
            checks.refuse_overflow(value.dtype.name, largest)
    return var
