"""The process that runs a student's answer: `python -m bn_from_scratch.checker.worker`.

It reads job.json in the folder it is given, makes every call of every task and writes
what came back to TASK.json; it judges nothing.  `sandbox` starts it, with limits.
"""

import json
import os
import pathlib
import re
import sys
import traceback
import types
from os import PathLike
from typing import Any

import numpy as np

from bn_from_scratch.checker import adapters, layer_script, sources, tasks

ANSI = re.compile(r"\x1b\[[0-9;]*m")  # colours
LARGEST = 100_000  # values of an output; no case is near


def main(folder: str | PathLike[str]) -> None:
    """Run the job in a folder."""
    folder = pathlib.Path(folder)
    job = json.loads((folder / "job.json").read_text())
    framework = job["framework"]
    adapter = adapters.load(framework)  # its memory is not the student's
    _limit_memory(job["memory"])
    try:
        names = load_answer(job)
    except BaseException as error:
        _write(folder / "answer.json", {"failure": _failure(error, job["file"])})
        return
    wanted = tasks.asked(job["tasks"] or names, framework)
    missing = [task for task in wanted if names.get(task, ...) is ...]
    _write(folder / "answer.json", {"tasks": wanted, "missing": missing})
    for task in wanted:
        if task not in missing:
            found = observe(task, names[task], framework, adapter, job["file"])
            _write(folder / f"{task}.json", found)


def load_answer(job: dict[str, Any]) -> dict[str, Any]:
    """The names that a file, a notebook or a pickle of a notebook's objects defines."""
    if job["pickle"]:
        import cloudpickle

        return cloudpickle.loads(pathlib.Path(job["pickle"]).read_bytes())
    path = pathlib.Path(job["file"])
    sys.path.insert(0, str(path.parent))
    module = types.ModuleType("answer")
    sys.modules["answer"] = module
    for place, source in sources.cells(path):
        exec(compile(source, place, "exec"), vars(module))
    return vars(module)


def observe(
    task: str, answer: Any, framework: str, adapter: types.ModuleType, file: str | None
) -> dict[str, Any]:
    """{case: {output: array or failure}} of one task."""
    found = {}
    for case in tasks.cases(task, framework):
        try:
            found[case.name] = _observe_case(
                task, case, answer, framework, adapter, file
            )
        except BaseException as error:
            found[case.name] = {"failure": _failure(error, file)}
    return found


def _observe_case(task, case, answer, framework, adapter, file):
    """{output: array or failure} of one case."""
    if task in tasks.SCRIPTS:
        return _observe_layer(case, answer, framework, adapter, file)
    if task in ("LeNet", "fit"):
        values = getattr(adapter, task)(answer, case)
        values = zip(case.outputs, values, strict=True)
        return {name: _plain(adapter.array(value)) for name, value in values}
    before = [adapters.exact(a) for a in case.arguments.values()]
    outputs, gradients, after = adapter.call(answer, case)
    if outputs is None:
        raise NotImplementedError
    if not isinstance(outputs, (tuple, list)):
        outputs = (outputs,)
    if len(outputs) != len(case.outputs):
        wanted = ", ".join(case.outputs)
        raise TypeError(f"{wanted} must be returned; got {len(outputs)} value(s)")
    found = dict(zip(case.outputs, outputs, strict=True)) | gradients
    found = {name: _plain(adapter.array(value)) for name, value in found.items()}
    same = all(
        np.array_equal(a, adapter.array(b)) for a, b in zip(before, after, strict=True)
    )
    return found | {tasks.LEFT_ALONE: _plain(np.array(float(same)))}


def _observe_layer(case, answer, framework, adapter, file):
    """The script's outputs for a student's layer."""

    def layer(X):
        return adapter.Layer(lambda: answer(**case.options), X)

    found = {}
    for output, value in layer_script.run(layer, case, framework):
        try:
            found[output] = _plain(value())
        except BaseException as error:
            found[output] = {"failure": _failure(error, file)}
    return found


def _plain(array):
    """An array as JSON holds it."""
    array = np.asarray(array, np.float64)
    if array.size > LARGEST:
        raise ValueError(f"an output has {array.size} values")
    return {"shape": array.shape, "values": array.ravel().tolist()}


def _failure(error, file):
    """What went wrong, and on which line of the answer."""
    place = ""
    for frame in traceback.extract_tb(error.__traceback__):
        name = pathlib.Path(frame.filename).name
        if file and name.startswith(pathlib.Path(file).name):
            place = f"{name}, line {frame.lineno}"
    lines = [line for line in ANSI.sub("", str(error)).splitlines() if line.strip()]
    if lines and lines[0].startswith("Exception encountered when calling"):
        lines = lines[1:]  # Keras: what was called, then what went wrong
    return {
        "type": type(error).__name__,
        "message": lines[0].strip()[:300] if lines else "",
        "place": place,
    }


def _limit_memory(megabytes):
    """Let the process ask for this much more than it has; where the system can."""
    try:
        import resource

        pages = int(pathlib.Path("/proc/self/statm").read_text().split()[0])
    except (ImportError, OSError):
        return
    limit = pages * resource.getpagesize() + megabytes * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _write(path, value):
    """A JSON file, whole or not at all."""
    partial = path.with_suffix(".part")
    partial.write_text(json.dumps(value))
    os.replace(partial, path)


if __name__ == "__main__":
    main(sys.argv[1])
