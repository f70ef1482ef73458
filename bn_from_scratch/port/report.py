"""What a port found and did."""

from dataclasses import dataclass, field
from typing import Any

from bn_from_scratch.port.assumptions import Assumption
from bn_from_scratch.port.proof import COLUMNS, Row
from bn_from_scratch.port.words import TITLES
from bn_from_scratch.presentation.table import Figure, table
from bn_from_scratch.text import visible


@dataclass
class Report:
    """What was carried, and how it was proven; `str` is a table.

    rows: the proof, a dict per layer and dtype.  written: the path of the new file;
    None where nothing was written.  notes: what the layers must be made with.  left:
    the names in the source that were not carried.  assumed: what nobody said.

    >>> rows = [{"layer": "bn", "channels": 6, "dtype": "float32", "prediction": 2e-7}]
    >>> names = "torch", "mxnet"
    >>> Report("model.pt", names, "batch norms: 1", rows, "model.params").largest
    2e-07
    """

    source: str
    frameworks: tuple[str, str]
    kind: str  # "LeNet" or "4 batch norms"
    rows: list[Row]
    written: str | None
    notes: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    assumed: list[Assumption] = field(default_factory=list)

    @property
    def largest(self) -> float:
        """The largest difference of the proof."""
        return max(row.get(column, 0.0) for row in self.rows for column in COLUMNS)

    def __str__(self) -> str:
        before, after = (TITLES[name] for name in self.frameworks)
        lines = [
            visible(
                f"{self.source} ({before}, {self.kind}) -> "
                f"{self.written or 'nothing written'} ({after})"
            ),
            "",
            "Both sides on the same input: largest difference, relative to the largest "
            "value.",
            "",
            table(["layer", "channels", "dtype", *COLUMNS], map(_cells, self.rows)),
            "",
            *map(visible, self.notes),
        ]
        if self.left:
            lines.append(visible(f"not carried: {', '.join(self.left)}"))
        lines.append(visible(self.verdict))
        return "\n".join(lines)

    @property
    def verdict(self) -> str:
        """Do both sides agree, and if what?"""
        condition = f", if {' and '.join(map(str, self.assumed))}" * bool(self.assumed)
        return f"Both sides agree{condition}: worst {self.largest:.1e}."

    def as_dict(self) -> dict[str, Any]:
        """The same as plain Python, for JSON."""
        return {
            "source": self.source,
            "from": self.frameworks[0],
            "to": self.frameworks[1],
            "kind": self.kind,
            "written": self.written,
            "largest": self.largest,
            "rows": self.rows,
            "assumed": [assumption.as_dict() for assumption in self.assumed],
            "notes": self.notes,
            "left": self.left,
        }


def _cells(row):
    figures = (Figure(row[c]) if c in row else "-" for c in COLUMNS)
    return [row["layer"] or "-", row["channels"], row["dtype"], *figures]
