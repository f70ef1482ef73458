"""The diagnosis of one pair of layers, from their records."""

import dataclasses

import numpy as np

from bn_from_scratch.diagnosis import evidence
from bn_from_scratch.diagnosis.causes import EPS_CUSTOMS, NUMBERS, SWAPPED, TWICE
from bn_from_scratch.diagnosis.given import given, same, state, stored
from bn_from_scratch.diagnosis.recording import Recording
from bn_from_scratch.diagnosis.scale import distance
from bn_from_scratch.diagnosis.search import explain
from bn_from_scratch.diagnosis.side import Side
from bn_from_scratch.diagnosis.verdict import Cause, Diagnosis
from bn_from_scratch.spec import MOMENTUM


def diagnose_pair(
    one: Recording,
    other: Recording,
    names: tuple[str, str] = ("a", "b"),
    layer: str = "",
) -> Diagnosis:
    """The Diagnosis of two Recordings; ValueError where they hold no output."""
    a, b = Side(one, names[0]), Side(other, names[1])
    causes, left = [*given(a, b), *stored(a, b)], {}
    for side in (a, b):
        if not side.raw and not causes:
            raise ValueError(f"the record of {side.name} holds no output to compare")
    differences = _compared(a, b)
    apart = {k: d for k, d in differences.items() if d.excess > 1}
    told = {".".join(d.key): d for d in differences.values()}
    if causes or apart or not differences:
        found, left = _explained(a, b)
        causes += found
        apart = apart or left
    found = Diagnosis(names, not causes and not apart, causes, told, layer=layer)
    if not found.equal:
        found.unexplained = _unexplained(left, causes, apart)
        found.notes = _notes(a, b)
    return found


def _compared(a, b):
    """{key: Deviation} of the outputs that both have, of the same shape."""
    found = {}
    for key in a.raw:
        one, other = a.raw[key], b.raw.get(key)
        if other is None or one.shape != other.shape or _given_apart(a, b, key[0]):
            continue
        one, other = one.astype(np.float64), other.astype(np.float64)
        scales = a.scales[key[0]], b.scales[key[0]]
        allowed = np.maximum(*(s.allowed_between(key[1], one, other) for s in scales))
        largest = np.maximum(*(evidence.sizes(v, "") for v in (one, other)))
        apart = distance(one, other, key[1])
        found[key] = evidence.deviation(key, apart, largest, allowed)
    return found


def _given_apart(a, b, event):
    """Whether an event of the two was not the same call."""
    pairs = [
        (a.events[event].values.get(k), b.events[event].values.get(k))
        for k in ("X", "dY")
    ]
    return any(not same(one, other) for one, other in pairs) or bool(state(a, b))


# --- What they did -------------------------------------------------------------------


def _explained(a, b):
    """The causes in what the two do, and {key: Deviation} of what they leave open."""
    found, left = [explain(a), explain(b)], {}
    causes = []
    for side, mine, theirs in ((a, *found), (b, *reversed(found))):
        shared = theirs.hypothesis.mistakes
        for mistake in mine.hypothesis.mistakes:
            if mistake not in shared:
                causes.append(_cause(side, mistake, mine))
        if mine.left:
            worst = evidence.misfit(side, mine.hypothesis)
            left[side.name, worst.key] = worst
    hypotheses = [e.hypothesis for e in found]
    for name in NUMBERS:
        if all(_matters(s, h, name, hypotheses) for s, h in ((a, 0), (b, 1))):
            causes.append(_number(a, b, name, *hypotheses))
    return causes, left


def _cause(side, mistake, explanation):
    hypothesis = explanation.hypothesis
    sets = [
        [m for m in h.mistakes if m is not mistake] for h in explanation.alternatives
    ]
    others = tuple(" with ".join(m.name for m in s) for s in sets)
    if mistake is TWICE and "momentum" not in side.recording.settings:
        others += (f"momentum {1 - (1 - hypothesis.momentum) ** 2:g}",)
    said = evidence.of_mistake(side, mistake, hypothesis)
    return Cause(mistake, side.name, said, others)


def _matters(side, mine, name, hypotheses):
    """Whether a side would answer otherwise with the number of the other."""
    theirs = getattr(hypotheses[1 - mine], name)
    other = dataclasses.replace(hypotheses[mine], **{name: theirs})
    return bool(side.changed(other, hypotheses[mine]))


def _number(a, b, name, mine, theirs):
    """The cause that eps, or momentum, is not the same."""
    one, other = getattr(mine, name), getattr(theirs, name)
    mistake, side = NUMBERS[name], f"{a.name} and {b.name}"
    said = f"{a.name}'s eps fits {_eps(one)}, {b.name}'s {_eps(other)}"
    if name == "momentum":
        said = (
            f"{a.name} weighs the new batch by {one:.6g} and the old value by "
            f"{1 - one:.6g}, {b.name} by {other:.6g} and {1 - other:.6g}"
        )
        if np.isclose(one + other, 1):
            mistake, side = SWAPPED, _who_swapped(a, b, one, other)
    apart = evidence.misfit(b, dataclasses.replace(theirs, **{name: one}))
    about = evidence.about(b, apart)
    return Cause(
        mistake, side, f"{said}: {b.name} is off {a.name}'s by {apart}{about}."
    )


def _who_swapped(a, b, one, other):
    """The side whose momentum is not what was set, or is by default."""
    for side, number in ((a, one), (b, other)):
        if np.isclose(number, 1 - side.recording.settings.get("momentum", MOMENTUM)):
            return side.name
    return f"{a.name} and {b.name}"


def _eps(eps):
    custom = EPS_CUSTOMS.get(eps)
    return f"{eps:g} ({custom})" if custom else f"{eps:g}"


def _unexplained(left, causes, apart):
    """What no cause gives, in words."""
    if left:
        return [
            f"No known cause: the spec, so explained, is off {name} by {worst}."
            for (name, _), worst in left.items()
        ]
    if not causes:
        worst = max(apart.values(), key=lambda d: d.excess)
        return [f"No known cause: both fit the spec, and yet differ by {worst}."]
    return []


def _notes(a, b):
    """What the records lack to tell more."""
    lacking = [
        f"{what} of {side.name}"
        for side in (a, b)
        for what, is_there in (
            ("a training step", any(e.training for e in side.events.values())),
            ("a prediction", any(not e.training for e in side.events.values())),
            ("the moving averages", any("moving" in k for _, k in side.raw)),
        )
        if not is_there
    ]
    text = f"Not recorded: {', '.join(lacking)}; what shows there only cannot be told."
    return [text] if lacking else []
