"""`bn variants`: which variants combine, and why the others do not."""

from itertools import combinations
from typing import Any

from bn_from_scratch.combinations import ORDER, REFUSED, refusal
from bn_from_scratch.presentation.table import table


def render() -> str:
    """A matrix of the pairs, and the reasons against those that do not combine."""
    reasons = list(dict.fromkeys(REFUSED.values()))

    def cell(first: str, second: str) -> str:
        if first == second:
            return ""
        reason = refusal(first, second)
        return f"({reasons.index(reason) + 1})" if reason else "yes"

    rows = [[first, *(cell(first, second) for second in ORDER)] for first in ORDER]
    notes = [f"({i}) {reason}" for i, reason in enumerate(reasons, 1)]
    return "\n".join([table(["", *ORDER], rows), "", *notes])


def as_dict() -> dict[str, Any]:
    """The same as plain Python, for JSON."""
    reasons = {pair: refusal(*pair) for pair in combinations(ORDER, 2)}
    pairs = [
        {"variants": list(pair), "combine": reason is None, "reason": reason}
        for pair, reason in reasons.items()
    ]
    return {"order": list(ORDER), "pairs": pairs}
