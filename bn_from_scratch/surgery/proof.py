"""Prove on an input that a changed model answers as before."""

from typing import Any

import numpy as np

TOLERANCE = 1e-6  # of the largest value, in float64; float32 as its sums allow


def difference(before: Any, after: Any) -> float:
    """The largest difference, relative to the largest value before; inf for NaN.

    Models may answer with one array, or with several in a dict.
    """
    if isinstance(before, dict):
        return max((difference(before[k], after[k]) for k in before), default=0.0)
    before, after = np.asarray(before, np.float64), np.asarray(after, np.float64)
    if before.shape != after.shape:
        return np.inf
    if not before.size:
        return 0.0
    largest = np.abs(before).max()
    apart = np.abs(after - before).max() / (largest or 1.0)
    return float(np.nan_to_num(apart, nan=np.inf))


def prove(
    before: dict[str, Any], after: dict[str, Any], tolerance: float = TOLERANCE
) -> dict[str, float]:
    """Raise ValueError unless two {mode: output} agree; return the differences.

    before, after: {"prediction": array, "training": array}, of the same input.
    """
    found = {mode: difference(before[mode], after[mode]) for mode in before}
    for mode, apart in found.items():
        if not apart <= tolerance:
            raise ValueError(
                f"the model's output in {mode} would change by {apart:.1e} of its "
                f"largest value; more than {tolerance:.0e}, so nothing was changed"
            )
    return found
