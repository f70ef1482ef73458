"""Text tables for the terminal."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

from bn_from_scratch.text import visible

NUMBER = re.compile(r"[-+\d.,e]+|nan|inf")


def table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Columns as wide as their longest cell; those of numbers stand to the right."""
    cells = [[visible(cell) for cell in row] for row in rows]
    columns = list(zip(header, *cells, strict=True))
    right = [all(map(NUMBER.fullmatch, column[1:])) for column in columns]
    widths = [max(map(len, column)) for column in columns]
    lines = []
    for row in [header, *cells]:
        aligned = zip(row, widths, right, strict=True)
        lines.append("  ".join(c.rjust(w) if r else c.ljust(w) for c, w, r in aligned))
    lines.insert(1, "  ".join("-" * w for w in widths))
    return "\n".join(line.rstrip() for line in lines)


class Figure(float):
    """A number shown as 1.2e-16.

    >>> print(Figure(0.00012345))
    1.2e-04
    """

    def __str__(self) -> str:
        return "0" if self == 0 else f"{float(self):.1e}"
