"""Statistics that overflow: refused where Python may look at them, NaN elsewhere."""

import numpy as np
import tensorflow as tf
from tensorflow import Tensor

from bn_from_scratch import checks


def in_range(X: Tensor, var: Tensor) -> Tensor:
    """var [C], if it fits its dtype.  Else ValueError, or NaN where none can be raised.

    X that holds NaN or infinity passes: its statistics are NaN, as everywhere.
    """
    if not tf.executing_eagerly() or "CPU" not in var.device:
        return tf.where(tf.math.is_finite(var), var, np.nan)
    if 0 not in X.shape and not np.isfinite(var.numpy()).all():
        if np.isfinite(largest := tf.reduce_max(tf.abs(X)).numpy()):
            checks.refuse_overflow(var.dtype.name, float(largest))
    return var
