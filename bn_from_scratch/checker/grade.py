"""Grade a class: every answer in a folder, as a table, JSON or CSV."""

import concurrent.futures
import csv
import io
import json
import pathlib
from collections.abc import Callable, Iterable
from os import PathLike
from typing import Any

from bn_from_scratch.checker import Verdict, check
from bn_from_scratch.presentation.table import table

COLUMNS = ("answer", "framework", "task", "status", "mistakes", "message")


def answers(folder: str | PathLike[str]) -> list[pathlib.Path]:
    """The files in a folder and below it that may be answers, by name."""
    folder = pathlib.Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"the answers must be in a folder; {folder} is none")
    found = [p for p in folder.rglob("*") if p.suffix in (".py", ".ipynb")]
    hidden = ("_", ".", "test_", "conftest")  # of the folder, not of its students
    parts = {p: p.relative_to(folder).parts for p in found}
    found = sorted(p for p in found if not any(x.startswith(hidden) for x in parts[p]))
    if not found:
        raise FileNotFoundError(f"{folder} holds no .py and no .ipynb file")
    return found


def grade(
    folder: str | PathLike[str],
    jobs: int = 1,
    progress: Callable[[str], object] = lambda text: None,
    **options: Any,
) -> list[Verdict]:
    """A Verdict for every answer in a folder, each named by its path below it."""

    def judged(path):
        found = check(path, **options)
        if found is not None:  # an answer that is being checked grades nobody
            found.name = path.relative_to(folder).as_posix()
            progress(f"{found.name}: {_summary(found)}")
        return found

    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        return [v for v in pool.map(judged, answers(folder)) if v is not None]


def _summary(verdict):
    """A verdict in a few words: `4 of 6 right`."""
    if verdict.error:
        return "cannot be run"
    facts = verdict.as_dict()
    return f"{facts['right']} of {facts['of']} right"


def to_json(verdicts: Iterable[Verdict]) -> str:
    """All verdicts as JSON text."""
    return json.dumps([v.as_dict() for v in verdicts], indent=1)


def to_csv(verdicts: Iterable[Verdict]) -> str:
    """A line for every task of every answer, as CSV text."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(_rows(verdicts))
    return text.getvalue()


def render(verdicts: Iterable[Verdict]) -> str:
    """The table for a terminal: what each answer got, and its mistakes by name."""
    lines = []
    for verdict in verdicts:
        facts = verdict.as_dict()
        wrong = {m: None for f in facts["findings"] for m in f["mistakes"]}
        unknown = any(f["differences"] for f in facts["findings"])
        named = [*wrong, *(["a difference of no known kind"] if unknown else [])]
        notes = verdict.error or "; ".join(named)
        lines.append([verdict.name, verdict.framework, _summary(verdict), notes])
    return table(["answer", "framework", "result", "mistakes"], lines)


def _rows(verdicts):
    """[answer, framework, task, status, mistakes, message] of every task."""
    for verdict in verdicts:
        start = [verdict.name, verdict.framework]
        if verdict.error:
            yield [*start, "", "cannot be run", "", verdict.error]
        for finding in verdict.as_dict()["findings"]:
            yield [
                *start,
                finding["task"],
                finding["status"],
                "; ".join(finding["mistakes"]),
                "; ".join([*finding["messages"], *finding["differences"].splitlines()]),
            ]
