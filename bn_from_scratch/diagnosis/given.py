"""The causes that lie in what two layers were given or held, not in what they do."""

import numpy as np

from bn_from_scratch.diagnosis.causes import GIVEN
from bn_from_scratch.diagnosis.prediction import start_of
from bn_from_scratch.diagnosis.recording import STATE
from bn_from_scratch.diagnosis.side import Side
from bn_from_scratch.diagnosis.verdict import Cause

SAME = 1e-6  # of the largest value: what two records may be given


def same(one: np.ndarray | None, other: np.ndarray | None) -> bool:
    """Whether two arrays agree; one that was not recorded agrees with every other."""
    if one is None or other is None:
        return True
    if one.shape != other.shape:
        return False
    largest = np.abs(one).max(initial=0)
    return bool(np.abs(one - other).max(initial=0) <= SAME * largest)


def state(a: Side, b: Side) -> list[str]:
    """Names of what the two start from differently."""
    pairs = zip(STATE, start_of(a.recording), start_of(b.recording), strict=True)
    return [name for name, one, other in pairs if not same(one, other)]


def given(a: Side, b: Side) -> list[Cause]:
    """The causes that lie in what the two were given."""
    for event in a.events:
        if event in b.events:
            one, other = (s.events[event].values["X"] for s in (a, b))
            if not same(one, other):
                return [_other_input(a, b, event, one, other)]
    return _other_state(a, b, *(_named(start_of(s.recording)) for s in (a, b)))


def stored(a: Side, b: Side) -> list[Cause]:
    """The causes that lie in what the two layers held before they were recorded."""
    one, other = a.recording.stored, b.recording.stored
    return _other_state(a, b, one, other) if one and other else []


def _named(values):
    return dict(zip(STATE, values, strict=True))


def _other_input(a, b, event, one, other):
    border = _border(one, other)
    if border is None:
        what = f"{event}.X is not the same in {a.name} and {b.name}"
        return Cause(GIVEN["input"], f"{a.name} and {b.name}", f"{what}.")
    shapes = f"{a.name}'s X has shape {one.shape}, {b.name}'s {other.shape}"
    wider = a if one.shape[-1] > other.shape[-1] else b
    return Cause(
        GIVEN["padding"],
        wider.name,
        f"{shapes}; {border} more values at every edge are SAME against VALID before a "
        f"{2 * border + 1}x{2 * border + 1} kernel.",
    )


def _border(one, other):
    """By how much one of two images is wider at every edge; None if it is not that."""
    if one.shape[:2] != other.shape[:2] or one.ndim != other.ndim or one.ndim < 4:
        return None
    wider = {abs(n - m) for n, m in zip(one.shape[2:], other.shape[2:], strict=True)}
    if len(wider) > 1 or min(wider) % 2 or min(wider) == 0:
        return None
    return min(wider) // 2


def _other_state(a, b, one, other):
    """The cause of states that differ: another order, or other values."""
    differ = [k for k in one if k in other and not same(one[k], other[k])]
    if not differ:
        return []
    moved = {k: next((j for j in one if same(one[j], other[k])), None) for k in differ}
    if any(moved.values()) and len(differ) > 1:
        pairs = [f"{b.name}'s {k} is {a.name}'s {j}" for k, j in moved.items() if j]
        return [Cause(GIVEN["order"], f"{a.name} and {b.name}", _sentence(pairs))]
    pairs = []
    for k in differ:
        if one[k].shape != other[k].shape:
            pairs.append(f"{k} has shape {one[k].shape} and {other[k].shape}")
        else:
            pairs.append(f"{k} differs by {np.abs(one[k] - other[k]).max():.2g}")
    return [Cause(GIVEN["values"], f"{a.name} and {b.name}", _sentence(pairs))]


def _sentence(parts):
    return ", ".join(parts) + "."
