"""The code of an answer: a Python file, or the code cells of a notebook."""

import json
import pathlib
from os import PathLike


def cells(path: str | PathLike[str]) -> list[tuple[str, str]]:
    """[(where, code)] of a file: one for a program, one for each cell of a notebook."""
    path = pathlib.Path(path)
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".ipynb":
        return [(path.name, text)]
    try:
        found = json.loads(text)["cells"]
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"{path.name} is not a notebook") from None
    return [
        (f"{path.name}, cell {number}", _without_magic("".join(cell["source"])))
        for number, cell in enumerate(found, 1)
        if cell["cell_type"] == "code"
    ]


def code(path: str | PathLike[str]) -> str:
    """All code of a file, in one text."""
    return "\n".join(text for _, text in cells(path))


def _without_magic(source):
    """Lines for the notebook itself (%pip, !ls) become `pass`."""
    lines = []
    for line in source.splitlines():
        rest = line.lstrip()
        magic = rest.startswith(("%", "!"))
        lines.append(line[: len(line) - len(rest)] + "pass" if magic else line)
    return "\n".join(lines)
