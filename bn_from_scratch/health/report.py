"""What was seen of a model's batch norms, as text and as data."""

import dataclasses
import textwrap
from typing import Any

from bn_from_scratch.health.symptoms import Symptom
from bn_from_scratch.presentation.table import table
from bn_from_scratch.surgery.description import Description
from bn_from_scratch.text import visible


@dataclasses.dataclass(frozen=True)
class Row:
    """One layer: its symptoms with their evidence in words.

    n: values per channel in the batch; gap: between training and prediction of the
    normalized input, in standard deviations; output_gap: of the model's output, if this
    layer alone changes its mode.  None where there was no batch.

    >>> norm = Description("bn1", "BatchNorm2d", True, 6, 4, {}, {})
    >>> Row(norm, n=None, gap=None, output_gap=None, symptoms=[]).cells
    ['bn1', 'BatchNorm2d', 6, '-', '-', '-', 'well']
    """

    description: Description
    n: int | None
    gap: float | None
    output_gap: float | None
    symptoms: list[tuple[Symptom, str]]

    @property
    def cells(self) -> list[Any]:
        d = self.description
        size = "-" if d.num_features is None else d.num_features
        n = "-" if self.n is None else self.n
        gaps = self.gap, self.output_gap
        gaps = ("-" if gap is None else f"{gap:.2g}" for gap in gaps)
        names = ", ".join(s.name for s, _ in self.symptoms) or "well"
        return [d.name, d.kind, size, n, *gaps, names]

    def as_dict(self) -> dict[str, Any]:
        name, kind, *_ = self.cells
        found = [
            {"symptom": s.name, "evidence": text, "advice": s.advice}
            for s, text in self.symptoms
        ]
        sizes = {"values_per_channel": self.n, "gap": self.gap}
        sizes |= {"output_gap": self.output_gap}
        return {"layer": name, "kind": kind} | sizes | {"symptoms": found}


@dataclasses.dataclass(frozen=True)
class Health:
    """Every batch norm of a model, in its order; `str` is a table with advice.

    >>> norm = Description("bn1", "BatchNorm2d", True, 6, 4, {}, {})
    >>> print(Health("model", [Row(norm, 64, 0.01, 0.02, [])]))
    layer  kind         channels  values   gap  output  seen
    -----  -----------  --------  ------  ----  ------  ----
    bn1    BatchNorm2d         6      64  0.01    0.02  well
    """

    model: str
    rows: list[Row]
    notes: list[str] = dataclasses.field(default_factory=list)  # what is not known

    @property
    def well(self) -> bool:
        return not any(row.symptoms for row in self.rows)

    def as_dict(self) -> dict[str, Any]:
        """The same as plain Python, for JSON."""
        rows = [row.as_dict() for row in self.rows]
        found = {"model": self.model, "well": self.well, "notes": self.notes}
        return found | {"layers": rows}

    def __str__(self) -> str:
        header = ["layer", "kind", "channels", "values", "gap", "output", "seen"]
        lines = [table(header, [row.cells for row in self.rows])]
        for symptom, places in self.by_symptom().items():
            lines += ["", f"{symptom.name}:"]
            lines += [visible(f"  {layer}: {evidence}") for layer, evidence in places]
            lines += textwrap.wrap(
                symptom.advice, 88, initial_indent="  -> ", subsequent_indent="     "
            )
        lines += [""] * bool(self.notes) + [*map(visible, self.notes)]
        return "\n".join(lines)

    __repr__ = __str__  # a notebook shows the last value of a cell by it

    def by_symptom(self) -> dict[Symptom, list[tuple[str, str]]]:
        """{Symptom: [(layer, evidence)]}: what layers share is said once."""
        found = {}
        for row in self.rows:
            for symptom, evidence in row.symptoms:
                found.setdefault(symptom, []).append((row.description.name, evidence))
        return found
