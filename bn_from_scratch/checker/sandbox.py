"""Run a student's answer in a process of its own, with a time and a memory limit."""

import dataclasses
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from os import PathLike
from typing import Any

import numpy as np

SECONDS, MEGABYTES = 120, 2048
CHECKING = "BN_CHECKING"  # set in the process: `check` called in an answer does nothing


@dataclasses.dataclass(frozen=True)
class Failure:
    """What a call raised instead of an answer.

    >>> print(Failure("ValueError", "no such axis", "answer.py, line 3"))
    ValueError: no such axis (answer.py, line 3)
    """

    type: str
    message: str
    place: str = ""

    def __str__(self) -> str:
        at = f" ({self.place})" if self.place else ""
        return f"{self.type}: {self.message}{at}"


# What came back: {output: array} of a case, {case: ...} of a task, {task: ...} of an
# answer; None is a task whose hole is unfilled.
ObservedCase = dict[str, np.ndarray | Failure]
ObservedTask = dict[str, ObservedCase | Failure]
ObservedAnswer = dict[str, ObservedTask | Failure | None]


class AnswerError(Exception):
    """An answer that cannot be loaded, and why.

    >>> _read(pathlib.Path("no answer"), Failure("Crash", "it died of SIGSEGV"))
    Traceback (most recent call last):
    bn_from_scratch.checker.sandbox.AnswerError: Crash: it died of SIGSEGV
    """


def run(
    answer: str | PathLike[str] | dict[str, Any],
    framework: str,
    tasks: Iterable[str] | None = None,
    seconds: float = SECONDS,
    memory: int = MEGABYTES,
) -> ObservedAnswer:
    """Observe an answer: a path, or a dict of objects by name.

    tasks: which are asked for; None takes those whose names the answer has.
    Raises AnswerError for an answer that cannot even be loaded.
    """
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        job = {
            "file": None,
            "pickle": None,
            "framework": framework,
            "tasks": tasks,
            "memory": memory,
        }
        if isinstance(answer, dict):
            import cloudpickle

            (folder / "answer.pickle").write_bytes(cloudpickle.dumps(answer))
            job["pickle"] = str(folder / "answer.pickle")
        else:
            job["file"] = str(pathlib.Path(answer).resolve())
        (folder / "job.json").write_text(json.dumps(job))
        ended = _start(folder, seconds, memory)
        return _read(folder, ended)


def _start(folder, seconds, memory):
    """Run the worker to its end or the limit; what there is to say about the end."""
    command = [sys.executable, "-m", "bn_from_scratch.checker.worker", str(folder)]
    root = str(pathlib.Path(__file__).resolve().parent.parent.parent)
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    environment = os.environ | {CHECKING: "1", "PYTHONPATH": path}
    with open(folder / "printed.txt", "wb") as printed:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=printed,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
        try:
            status = process.wait(seconds)
        except subprocess.TimeoutExpired:
            return Failure("TimeLimit", f"no answer within {seconds} seconds")
        finally:
            _kill(process)
    if status == 0:
        return Failure("Missing", "the answer ended the process before it was asked")
    if status < 0:
        name = signal.Signals(-status).name
        return Failure("Crash", f"the process died of {name}")
    lines = (folder / "printed.txt").read_text(errors="replace").strip().splitlines()
    return Failure("Crash", lines[-1][:300] if lines else f"exit status {status}")


def _kill(process):
    """End the process and all that it started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError, AttributeError):
        process.kill()
    process.wait()


def _read(folder, ended):
    """What the worker wrote, as arrays and failures."""
    path = folder / "answer.json"
    if not path.exists():
        raise AnswerError(str(ended))
    facts = json.loads(path.read_text())
    if "failure" in facts:
        raise AnswerError(str(Failure(**facts["failure"])))
    found = {}
    for task in facts["tasks"]:
        file = folder / f"{task}.json"
        if task in facts["missing"]:
            found[task] = None
        elif file.exists():
            cases = json.loads(file.read_text())
            found[task] = {name: decode(case) for name, case in cases.items()}
        else:
            found[task] = ended
            break  # the process never came to the others
    return found


def decode(case: dict[str, Any]) -> ObservedCase | Failure:
    """{output: array or Failure} of one case, or the Failure of all of it."""
    if "failure" in case:
        return Failure(**case["failure"])
    return {
        output: Failure(**value["failure"])
        if "failure" in value
        else np.reshape(value["values"], value["shape"])
        for output, value in case.items()
    }
