"""`bn compare layer`: scratch and built-in layers against the spec, float64."""

from collections.abc import Sequence
from typing import Any

from bn_from_scratch import backends
from bn_from_scratch.backends.norms import norm_layer
from bn_from_scratch.case import QUANTITIES, difference, expected, make_case
from bn_from_scratch.presentation.table import Figure, table

SHAPES: dict[str, tuple[int, ...]] = {
    "2-D": (32, 5),
    "4-D": (8, 5, 7, 6),
}  # all sizes differ
STEPS = 3
TOLERANCE = 1e-12


def compare_layer(names: Sequence[str], norms: Sequence[str]) -> list[dict[str, Any]]:
    """A row for each backend, norm, rank and mode: its difference in every quantity."""
    rows = []
    for name in names:
        bn = backends.load(name, dtype="float64")
        for norm in norms:
            setting = bn.builtin_setting() if norm == "builtin" else {}
            for rank, shape in SHAPES.items():
                for training in (True, False):
                    X, dY, state = make_case(shape)
                    layer = norm_layer(bn, norm)(shape[1], len(shape), dtype="float64")
                    options = {"training": training, "steps": STEPS}
                    got = bn.probe(layer, X, dY, **options, state=state)
                    want = expected(X, dY, state, **options, setting=setting)
                    row = {"backend": name, "norm": norm, "rank": rank}
                    row["mode"] = "training" if training else "prediction"
                    row |= {q: difference(got[q], want[q]) for q in QUANTITIES}
                    rows.append(row)
    return rows


def agree(rows: list[dict[str, Any]]) -> bool:
    """Whether every difference is within TOLERANCE (NaN is not)."""
    return all(row[q] <= TOLERANCE for row in rows for q in QUANTITIES)


def render(rows: list[dict[str, Any]]) -> str:
    """The table, what was translated for each built-in, and the verdict."""
    places = ("backend", "norm", "rank", "mode")
    cells = [
        [*(row[p] for p in places), *(Figure(row[q]) for q in QUANTITIES)]
        for row in rows
    ]
    lines = [
        "Largest difference from the spec, relative to the largest value; float64, "
        f"{STEPS} steps.",
        "",
        table([*places, *QUANTITIES], cells),
        "",
    ]
    for name in dict.fromkeys(r["backend"] for r in rows if r["norm"] == "builtin"):
        lines += [f"The built-in layer of {name}, as a setting of the spec:"]
        words = backends.load(name).builtin_translation()
        lines += [f"  {ours}: {theirs}" for ours, theirs in words.items()]
    worst = max(row[q] for row in rows for q in QUANTITIES)
    verdict = "agree with the spec" if agree(rows) else "DO NOT agree with the spec"
    lines += ["", f"All rows {verdict}: worst {worst:.1e}, tolerance {TOLERANCE:.0e}."]
    return "\n".join(lines)
