"""Prove on an input that a changed model answers as before."""

import contextlib
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

TOLERANCE = 1e-6  # of the largest value, in float64
# In the model's own dtype, where it does not run in float64: half of the digits.
OWN_TOLERANCES = {"float32": 3e-4, "float16": 3e-2, "bfloat16": 9e-2}

Answers = dict[str, Any]  # {"prediction": {place: array}, "training": {place: array}}


def difference(before: Any, after: Any) -> float:
    """The largest difference, relative to the largest value before; inf for NaN.

    Models may answer with one array, or with several in a dict.
    """
    if isinstance(before, dict):
        if not isinstance(after, dict) or before.keys() != after.keys():
            return np.inf
        return max((difference(before[k], after[k]) for k in before), default=0.0)
    before, after = map(wide, (before, after))
    if before.shape != after.shape:
        return np.inf
    fixed = np.isinf(before) & (before == after)  # what a mask has put there
    before, after = before[~fixed], after[~fixed]
    if not before.size:
        return 0.0
    largest = np.abs(before).max()
    apart = np.abs(after - before).max() / (largest or 1.0)
    return float(np.nan_to_num(apart, nan=np.inf))


def wide(v: Any) -> np.ndarray:
    """An array in float64, or in complex128."""
    v = np.asarray(v)
    return v.astype(np.result_type(v, np.float64))


def prove(
    before: Answers, after: Answers, tolerance: float = TOLERANCE
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


def prove_same(
    answers: Callable[[Any, bool], Answers], old: Any, new: Any, dtype: str
) -> dict[str, float]:
    """Raise ValueError unless two models answer alike; return the differences.

    answers(model, in_float64) -> {mode: output}.  dtype: that of the old model.
    """

    def prove_with(in_float64: bool, tolerance: float) -> dict[str, float]:
        before, after = (answers(model, in_float64) for model in (old, new))
        return prove(before, after, tolerance)

    return prove_in_float64(prove_with, dtype, stacklevel=5)


def prove_in_float64(
    prove_with: Callable[[bool, float], Any], dtype: str, stacklevel: int = 4
) -> Any:
    """What `prove_with(exact, tolerance)` gives: in float64, else in the model's dtype.

    A model that casts on its way does not run in float64: it is proven in its own
    dtype, to the tolerance of that dtype, and a warning says so.
    """
    try:
        return prove_with(True, TOLERANCE)
    except NotInFloat64 as error:
        if dtype not in OWN_TOLERANCES:
            raise error.reason from None
        tolerance, reason = OWN_TOLERANCES[dtype], error.reason
    found = prove_with(False, tolerance)
    lines = [line for line in str(reason).splitlines() if line.strip()]
    warnings.warn(
        f"proven in {dtype}, to {tolerance:.0e} of the largest value: the model does "
        f"not run in float64 ({' '.join(lines[:2])})",
        stacklevel=stacklevel,
    )
    return found


class NotInFloat64(Exception):
    """A model does not run in float64."""

    def __init__(self, reason: Exception) -> None:
        super().__init__(str(reason))
        self.reason = reason


@contextlib.contextmanager
def in_float64(wanted: bool, errors: tuple[type[Exception], ...]) -> Iterator[None]:
    """Here `errors`, of dtypes that do not fit, are NotInFloat64, if that is wanted."""
    try:
        yield
    except errors as error:
        if not wanted:
            raise
        raise NotInFloat64(error) from error
