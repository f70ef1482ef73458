"""The code of an answer: a Python file, or the code cells of a notebook."""

import json
import pathlib
from os import PathLike

from bn_from_scratch import reading


def cells(path: str | PathLike[str]) -> list[tuple[str, str]]:
    """[(where, code)] of a file: one for a program, one for each cell of a notebook."""
    path = pathlib.Path(path)
    with reading.door(f"{path.name} is not text in UTF-8"):
        text = reading.content(path).decode()
    if path.suffix != ".ipynb":
        return [(path.name, text)]
    try:
        return [
            (f"{path.name}, cell {number}", _without_magic("".join(cell["source"])))
            for number, cell in enumerate(json.loads(text)["cells"], 1)
            if cell["cell_type"] == "code"
        ]
    except Exception:  # what is nested too deeply is a RecursionError
        raise ValueError(f"{path.name} is not a notebook") from None


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
