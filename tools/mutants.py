"""Plant bugs, and see the tests fail: `python tools/mutants.py [WHICH ...]`.

The bugs are data, tables of tools/mutants/*.toml:

    [[mutant]]
    name = "eps outside the root, in prediction only"
    file = "bn_from_scratch/backends/{backend}/batch_norm.py"
    backends = ["torch", "mxnet"]           # if {backend} occurs: one bug for each
    old = "stands exactly once in the file"
    new = "stands there instead"
    tests = "tests/test_batch_norm.py -k 'prediction and {backend}'"   # for pytest
    changes_nothing = "why no test can see it: it must survive"        # else left out

Each is put into a copy of the repository, where its tests must fail.  A framework is
imported once: the bugs of a backend share a process, in which our own modules are
imported anew for each.  Afterwards the same tests must pass there on the unchanged
code, or none of what they killed counts.  The exit status is 1 if anything is amiss.
"""

import argparse
import collections
import concurrent.futures
import dataclasses
import functools
import importlib
import json
import os
import pathlib
import re
import select
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import tomllib

ROOT = pathlib.Path(__file__).resolve().parent.parent
PACKAGE = "bn_from_scratch"
NOT_COPIED = ".*", "__pycache__", "_build", "results", "uv.lock"
LIMIT = 600  # seconds for the tests of one bug
OUTCOMES = "killed", "changes nothing", "survived", "AMISS"
SAY = functools.partial(print, flush=True)
NOT_RUN = "NameError", "SyntaxError", "ImportError", "ModuleNotFoundError"


@dataclasses.dataclass(frozen=True)
class Mutant:
    """One bug, of one backend where it is planted in several."""

    name: str
    file: str
    old: str
    new: str
    tests: str
    changes_nothing: str = ""
    of: str = ""  # the file of data it comes from, without its ending

    @property
    def title(self):
        own = f" [{self.group}]"
        return f"{self.of}: {self.name}" + (own if self.group not in self.name else "")

    @property
    def group(self):
        """The backend whose bugs run in one process."""
        found = re.search(r"backends/(\w+)/", self.file)
        return found.group(1) if found else ""

    def misfit(self, root):
        """Why it cannot be planted in the files under `root`, or None."""
        path = root / self.file
        found = path.read_text().count(self.old) if path.is_file() else None
        if found == 1:
            return None
        return "no such file" if found is None else f"`old` stands {found} times"


def read(folder):
    """The mutants of all files of data, one for each backend."""
    mutants = []
    for path in sorted(folder.glob("*.toml")):
        for entry in tomllib.loads(path.read_text())["mutant"]:
            for backend in entry.pop("backends", [None]):
                mutants.append(_mutant(entry, backend, path.stem))
    return mutants


def _mutant(entry, backend, of):
    if backend is not None:
        texts = "file", "tests"
        filled = {k: entry[k].replace("{backend}", backend) for k in texts}
        entry = entry | filled | {"name": f"{entry['name']} [{backend}]"}
    return Mutant(**entry, of=of)


# --- Running them --------------------------------------------------------------------


def run(root, mutants, jobs=1, say=SAY):
    """Plant each in a copy of `root`, and run its tests.  -> how many are amiss"""
    groups = collections.defaultdict(list)
    for mutant in mutants:
        groups[mutant.group].append(mutant)
    counts = collections.Counter()

    def tell(outcome, text):
        counts[outcome] += 1
        say(f"{outcome:16} {text}")

    workers = []
    names = sorted(groups, key=lambda name: len(groups[name]), reverse=True)
    with tempfile.TemporaryDirectory() as folder:
        pool = concurrent.futures.ThreadPoolExecutor(jobs)
        try:
            for name in names:
                copy = pathlib.Path(folder) / (name or "all")
                ignore = shutil.ignore_patterns(*NOT_COPIED)
                shutil.copytree(root, copy, ignore=ignore)
                workers.append(Worker(copy))
            tasks = zip(workers, (groups[name] for name in names), strict=True)
            for done in [pool.submit(run_group, *task, tell) for task in tasks]:
                done.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            for worker in workers:
                worker.end()
            pool.shutdown()
    say(", ".join(f"{counts[outcome]} {outcome}" for outcome in OUTCOMES))
    return counts["survived"] + counts["AMISS"]


def run_group(worker, mutants, tell):
    """All bugs of one backend, those with the same tests after one another."""
    by_tests = collections.defaultdict(list)
    for mutant in mutants:
        by_tests[mutant.tests].append(mutant)
    for tests, several in by_tests.items():
        for mutant in several:
            tell(*judge(worker, mutant))
        result = worker.test(tests)
        if result["status"] != 0 or not result["passed"]:
            why = f"{tests}: status {result['status']}, {result['passed']} passed"
            tell("AMISS", f"{why} on the unchanged code\n{worker.output()}")
    worker.end()


def judge(worker, mutant):
    """-> the outcome in a word, and in a sentence"""
    if misfit := mutant.misfit(worker.folder):
        return "AMISS", f"{mutant.title}: {misfit} in {mutant.file}"
    path = worker.folder / mutant.file
    unchanged, start = path.read_text(), time.monotonic()
    path.write_text(unchanged.replace(mutant.old, mutant.new))
    try:
        result = worker.test(mutant.tests)
    finally:
        path.write_text(unchanged)
    took = f"{mutant.title} ({time.monotonic() - start:.1f} s)"
    status, error = result["status"], result["error"]
    if status == 0:
        reason = mutant.changes_nothing
        return (
            ("changes nothing", f"{took}: {reason}") if reason else ("survived", took)
        )
    if status != 1 or error in NOT_RUN:
        return "AMISS", f"{took}: status {status}, {error}\n{worker.output()}"
    if mutant.changes_nothing:
        return "AMISS", f"{took}: changes nothing, but {result['test']} fails"
    return "killed", f"{took} by {result['test']}: {error}"


class Worker:
    """A process that runs tests in a copy of the repository, and may be ended."""

    def __init__(self, folder):
        self.folder, self.log = folder, folder / "output.txt"
        self.process, self.ended, self.lock = None, False, threading.Lock()

    def test(self, tests):
        """Run the tests.  -> status, passed, and of the last failure test and error"""
        self.log.write_text("")
        with self.lock:
            if self.ended:
                raise RuntimeError("interrupted")
            self.process = self.process or self._start()
        self.process.stdin.write(json.dumps(tests) + "\n")
        self.process.stdin.flush()
        ready, _, _ = select.select([self.process.stdout], [], [], LIMIT)
        if ready and (line := self.process.stdout.readline()):
            return json.loads(line)
        error = "its process died" if ready else f"not done in {LIMIT} s"
        self._kill()
        return {"status": None, "passed": 0, "test": None, "error": error}

    def output(self):
        return "\n".join(self.log.read_text().splitlines()[-30:])

    def end(self):
        with self.lock:
            self.ended = True
            self._kill()

    def _start(self):
        paths = [str(self.folder), os.environ.get("PYTHONPATH")]
        env = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
        # Two texts of one size in one second are one to the cache of bytecode.
        env["PYTHONDONTWRITEBYTECODE"] = "1"
        return subprocess.Popen(
            [sys.executable, "-P", __file__, "--serve"],
            cwd=self.folder,
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def _kill(self):
        """With all processes that the tests have started."""
        if self.process is not None:
            try:
                os.killpg(self.process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            self.process.communicate()
            self.process = None


# --- In the process of a worker ------------------------------------------------------


def serve():
    """For each line of the input run pytest with its arguments; answer in a line."""
    import pytest

    folder = pathlib.Path.cwd().resolve()
    answers = os.fdopen(os.dup(1), "w")
    log = os.open("output.txt", os.O_WRONLY | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    own = importlib.import_module(PACKAGE)
    if folder not in pathlib.Path(own.__file__).resolve().parents:
        raise ImportError(f"{own.__file__} was imported, not the copy in {folder}")
    options = ["-x", "-q", "-o", "addopts=-m 'not notebook'", "-p", "no:cacheprovider"]
    for line in sys.stdin:
        forget(folder)
        seen = Seen()
        arguments = shlex.split(json.loads(line))
        seen.status = int(pytest.main([*options, *arguments], plugins=[seen]))
        answers.write(json.dumps(vars(seen)) + "\n")
        answers.flush()


def forget(folder):
    """Modules that come from `folder` are imported anew the next time."""
    for name, module in list(sys.modules.items()):
        path = getattr(module, "__file__", None)
        if path and folder in pathlib.Path(path).parents:
            del sys.modules[name]
    importlib.invalidate_caches()


class Seen:
    """A plugin of pytest: how many tests passed, which failed and how."""

    def __init__(self):
        self.passed, self.test, self.error = 0, None, None

    def pytest_runtest_logreport(self, report):
        self.passed += report.when == "call" and report.passed

    def pytest_exception_interact(self, node, call):
        self.test, self.error = node.name, call.excinfo.typename


# --- The command line ----------------------------------------------------------------


def main():
    first, rest = __doc__.split("\n\n", 1)
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("mutants", None, first, rest, formatter_class=form)
    parser.add_argument("which", nargs="*", help="words of titles or files (all)")
    parser.add_argument("--jobs", type=int, default=1, help="processes at a time")
    parser.add_argument("--list", action="store_true", help="plant none, name them")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        return serve()
    mutants = [
        m
        for m in read(ROOT / "tools" / "mutants")
        if not options.which or any(w in m.title + m.file for w in options.which)
    ]
    if options.list:
        print("\n".join(f"{m.title}\n    {m.file}: {m.tests}" for m in mutants))
        return 0
    try:
        return int(run(ROOT, mutants, options.jobs) > 0)
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
