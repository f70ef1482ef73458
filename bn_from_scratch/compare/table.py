"""Text tables for the terminal."""


def table(header, rows):
    """Columns as wide as their longest cell; numbers stand to the right."""
    cells = [[str(cell) for cell in row] for row in [header, *rows]]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    text = [
        all(isinstance(v, str) for v in column) for column in zip(*rows, strict=True)
    ]
    lines = []
    for row in cells:
        aligned = zip(row, widths, text, strict=True)
        lines.append("  ".join(c.ljust(w) if t else c.rjust(w) for c, w, t in aligned))
    lines.insert(1, "  ".join("-" * w for w in widths))
    return "\n".join(line.rstrip() for line in lines)


class Figure(float):
    """A number shown as 1.2e-16, right-aligned by `table`."""

    def __str__(self):
        return "0" if self == 0 else f"{float(self):.1e}"
