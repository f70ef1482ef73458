"""The checker itself: what it says, how it runs answers, the command line, a class."""

import csv
import io
import json
import subprocess
import time
import types

import answers
import observing
import pytest

from bn_from_scratch import cli
from bn_from_scratch.checker import (
    assert_right,
    check,
    comparison,
    grade,
    judge,
    mistakes,
    sandbox,
    tasks,
)
from bn_from_scratch.checker.mistakes import MISTAKES, Mistake, together

RIGHT = answers.written("numpy")
WRONG = {name: answers.written("numpy", c) for name, (c, _) in answers.WRONG.items()}


@pytest.fixture
def answer(tmp_path):
    """Write an answer to a file; returns its path."""

    def write(text, name="answer.py"):
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


# --- What is said --------------------------------------------------------------------


def test_a_right_answer_is_called_right_task_by_task(answer):
    found = check(answer(RIGHT))
    assert str(found) == (
        "batch_stats: right\n"
        "normalize: right\n"
        "update_moving: right\n"
        "batch_norm: right\n"
        "batch_norm_backward: right"
    )
    assert found.right and found.complete and found.framework == "numpy"


def test_a_mistake_is_named_with_a_hint_and_not_explained_twice(answer):
    found = check(answer(WRONG["eps outside"]))
    assert str(found) == (
        "batch_stats: right\n"
        "normalize: wrong\n"
        "  - eps is outside the square root.\n"
        "    The denominator is sqrt(var + eps), equation (3).\n"
        "update_moving: right\n"
        "batch_norm: wrong\n"
        "  - as above: eps is outside the square root.\n"
        "batch_norm_backward: right"
    )
    assert not found.right


def test_two_mistakes_in_one_output_are_both_named(answer):
    found = check(answer(WRONG["eps outside, no beta"]), only="normalize")
    names = {m.name for m in found.findings[0].mistakes}
    assert names == {"eps: outside the root", "beta missing"}


def test_what_no_mistake_explains_is_shown_on_the_smallest_input(answer):
    found = check(answer("def update_moving(a, b, c, d, momentum): return a, 3 * b\n"))
    assert str(found) == (
        "update_moving: wrong\n"
        "  - the moving mean is never updated.\n"
        "    Update both averages in training, equations (5) and (6).\n"
        "  - and something that is no known mistake:\n"
        "    moving_mean = [1.6 0.9]\n"
        "    moving_var = [4.  2.7]\n"
        "    mean = [ 0.3 -0.4]\n"
        "    var = [0.5 1. ]\n"
        "    moving_var (momentum 0.2, momentum=0.2)\n"
        "    should be [3.3  2.36]\n"
        "    is        [12.   8.1]"
    )


def test_an_exception_is_shown_with_its_line(answer):
    found = check(answer("def batch_stats(X):\n    return X.nothing\n"))
    assert str(found).splitlines()[-1].strip() == (
        "raised AttributeError: 'numpy.ndarray' object has no attribute 'nothing' "
        "(answer.py, line 2)"
    )


def test_a_layer_that_fails_is_not_given_a_mistake(answer):
    """A layer that fails in training never updates; that is not what is wrong."""
    text = answers.written_layer("numpy").replace(
        "        if training and count(X) == 1:",
        "        if training: self.add_update()\n"
        "        if training and count(X) == 1:",
    )
    found = check(answer(text), only="BatchNorm")
    (finding,) = found.findings
    assert finding.mistakes == []
    assert "'BatchNorm' object has no attribute 'add_update'" in finding.differences


def test_a_hole_is_called_a_hole(answer):
    holes = (
        "def batch_stats(X):\n    ...\n\n"
        "class BatchNorm:\n"
        "    def __init__(self, num_features, num_dims): ...\n"
        "    def __call__(self, X, training): ...\n"
    )
    found = check(answer(holes))
    assert str(found) == "batch_stats: not written yet\nBatchNorm: not written yet"
    assert not found.right and not found.complete


def test_too_few_outputs_are_told(answer):
    found = check(answer("def batch_stats(X): return X.mean(0)\n"))
    assert "mean, var must be returned; got 1 value(s)" in str(found)


def of_numpy(text, *wanted):
    """The findings on an answer in NumPy, observed in this process."""
    module = types.ModuleType("answer")
    exec(text, vars(module))
    return observing.findings(vars(module), "numpy", wanted)


@pytest.mark.parametrize(("off", "status"), [(1e-4, "right"), (2e-3, "wrong")])
def test_what_is_nearly_right(off, status):
    """float32 is right; a small mistake is none of rounding."""
    text = (
        "def batch_stats(X):\n"
        "    axes = (0, *range(2, X.ndim))\n"
        f"    return {1 + off} * X.mean(axes), {1 + off} * X.var(axes)\n"
    )
    (found,) = of_numpy(text, "batch_stats")
    assert found.status == status


def test_values_of_another_shape_are_wrong():
    flat = RIGHT + "\nright = normalize\n"
    flat += "def normalize(*four, **eps):\n    return right(*four, **eps).reshape(-1)\n"
    (found,) = of_numpy(flat, "normalize")
    assert found.status == "wrong"
    assert "should have shape (5, 2), has (10,)" in found.differences


def test_an_output_that_is_not_there_is_wrong():
    right = comparison.Comparison("batch_stats", "numpy", {}).right
    observed = {}
    for (case, output), value in right.items():
        observed.setdefault(case, {})[output] = value
    assert comparison.Comparison("batch_stats", "numpy", observed).wrong == set()
    del observed["2-D"]["mean"], observed["4-D"]
    task = comparison.Comparison("batch_stats", "numpy", observed)
    names = {key for key in right if key[0] == "4-D"}
    assert task.wrong == names | {("2-D", "mean")}


def test_one_argument_that_is_changed_is_one_too_many():
    text = (
        "def update_moving(moving_mean, moving_var, mean, var, momentum):\n"
        "    moving_mean *= 1 - momentum\n"
        "    moving_mean += momentum * mean\n"
        "    return moving_mean.copy(), (1 - momentum) * moving_var + momentum * var\n"
    )
    (found,) = of_numpy(text, "update_moving")
    assert (found.status, found.differences) == ("wrong", "")
    assert [mistake.name for mistake in found.mistakes] == ["changed in place"]


def test_an_output_of_many_values_is_not_taken():
    text = "import numpy as np\ndef batch_stats(X):\n    return np.ones(100_001), 0\n"
    (found,) = of_numpy(text, "batch_stats")
    message = "raised ValueError: an output has 100001 values"
    assert found.differences.splitlines()[-1] == message


def test_an_answer_that_is_half_written_is_right_and_not_complete(answer):
    path = answer(
        "import numpy as np\n"
        "def update_moving(m, v, mean, var, momentum):\n"
        "    return m + momentum * (mean - m), v + momentum * (var - v)\n"
        "def batch_stats(X):\n    ...\n"
    )
    found = check(path)
    assert (found.right, found.complete) == (True, False)
    with pytest.raises(AssertionError, match="batch_stats: not written yet"):
        assert_right(path)


def test_half_a_hole_is_wrong():
    """Where an answer raises in one case and not in the other, it was written."""
    text = (
        "def batch_stats(X):\n"
        "    if X.ndim == 2: raise NotImplementedError\n"
        "    return X.mean((0, 2, 3)), X.var((0, 2, 3))\n"
    )
    (found,) = of_numpy(text, "batch_stats")
    assert found.status == "wrong"


def test_no_mistake_is_named_that_breaks_what_is_right():
    """eps outside the root, but only of an X with two axes."""
    text = (
        "import numpy as np\n"
        "def normalize(X, mean, var, gamma, beta, eps):\n"
        "    shape = (1, -1) + (1,) * (X.ndim - 2)\n"
        "    mean, var, gamma, beta = (\n"
        "        v.reshape(shape) for v in (mean, var, gamma, beta))\n"
        "    outside = np.sqrt(var) + eps\n"
        "    std = outside if X.ndim == 2 else np.sqrt(var + eps)\n"
        "    return gamma * (X - mean) / std + beta\n"
    )
    (found,) = of_numpy(text, "normalize")
    assert (found.status, found.mistakes) == ("wrong", [])
    assert "Y (2-D, eps=0.3)" in found.differences


def test_nothing_to_check_is_told(answer):
    found = check(answer("x = 1\n"))
    assert str(found).startswith("answer.py defines none of batch_stats, normalize, ")
    assert not found.right


def test_functions_of_a_session_are_checked():
    namespace = {"__name__": "__main__"}
    exec(RIGHT, namespace)
    assert check(namespace["batch_stats"], namespace["normalize"]).complete


def test_a_helper_with_the_name_of_another_frameworks_task_is_left_alone(answer):
    helpers = "def fit(model):\n    return 1\n\nclass LeNet:\n    pass\n"
    found = check(answer(RIGHT + helpers))
    assert found.complete and len(found.findings) == 5


def test_only_one_name_of_a_file(answer):
    path = answer(WRONG["eps outside"])
    assert check(path, only="batch_stats").complete
    assert str(check(path, only="fit")).startswith("answer.py defines none of ")
    with pytest.raises(ValueError, match=r"what is checked must be one of .*; got 'x'"):
        check(path, only="x")


def test_a_notebook_is_an_answer(answer):
    cells = [
        {"cell_type": "markdown", "source": ["# Text"]},
        {"cell_type": "code", "source": ["%pip install x\n", "import numpy as np\n"]},
        {"cell_type": "code", "source": [RIGHT]},
        {"cell_type": "code", "source": ["if True:\n", "    !ls\n"]},
    ]
    path = answer(json.dumps({"cells": cells}), "answer.ipynb")
    assert check(path).complete
    broken = answer("not json", "broken.ipynb")
    assert (
        str(check(broken))
        == "broken.ipynb cannot be run: broken.ipynb is not a notebook"
    )


def test_check_does_nothing_in_an_answer_that_is_being_checked(answer):
    nested = (
        "from bn_from_scratch.checker import check\nassert check(batch_norm) is None"
    )
    text = f"{RIGHT}\n{nested}\n"
    assert check(answer(text)).complete


def test_an_answer_that_is_being_checked_asserts_nothing_and_grades_nobody(
    monkeypatch, school, capsys
):
    monkeypatch.setenv(sandbox.CHECKING, "1")
    assert_right(school / "cyd.py")
    assert grade.grade(school) == []
    assert cli.main(["check", str(school / "cyd.py")]) == 0
    assert capsys.readouterr() == ("", "")


def test_assert_right_raises_what_is_said(answer):
    assert_right(answer(RIGHT))
    with pytest.raises(AssertionError, match="eps is outside the square root"):
        assert_right(answer(WRONG["eps outside"], "wrong.py"))


def test_a_file_that_is_not_there():
    with pytest.raises(
        FileNotFoundError, match=r"the answer must be a file; no\.py is"
    ):
        check("no.py")


# --- How answers are run -------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("def f(:\n", "invalid syntax"),
        ("1 / 0\n", "ZeroDivisionError: division by zero (answer.py, line 1)"),
        ("import sys; sys.exit(3)\n", "SystemExit: 3 (answer.py, line 1)"),
        ("import os; os._exit(0)\n", "Missing: the answer ended the process"),
        ("import os; os.abort()\n", "Crash: the process died of SIGABRT"),
        ("while True: pass\n", "TimeLimit: no answer within 3 seconds"),
        ("x = b'1' * 10**10\n", "MemoryError"),
    ],
)
def test_an_answer_that_cannot_be_run_is_told_why(answer, text, said):
    seconds = 3 if "while" in text else 120
    found = check(answer(text), framework="numpy", seconds=seconds, memory=512)
    assert str(found).startswith("answer.py cannot be run: ")
    assert said in str(found)


def test_a_call_that_never_ends_leaves_the_tasks_before_it(
    answer, tmp_path, monkeypatch
):
    begun = tmp_path / "begun"
    never = f"    import pathlib; pathlib.Path({str(begun)!r}).touch()\n"
    never += "    while True: pass\n"
    text = RIGHT.replace("    X_hat = (X", f"{never}    X_hat = (X", 1)
    wait = subprocess.Popen.wait

    def wait_from_then_on(process, seconds=None):
        """The limit begins with that call, however busy the machine is until then."""
        while seconds and not begun.exists() and process.poll() is None:
            time.sleep(0.05)
        return wait(process, seconds and 0.1)

    monkeypatch.setattr(subprocess.Popen, "wait", wait_from_then_on)
    found = check(answer(text), seconds=15)
    assert str(found) == (
        "batch_stats: right\n"
        "normalize: wrong\n"
        "  - this:\n"
        "    TimeLimit: no answer within 15 seconds"
    )


def test_memory_that_a_call_asks_for_is_limited(answer):
    text = "import numpy as np\ndef batch_stats(X):\n    return np.ones(10**9), 0\n"
    assert "MemoryError" in str(check(answer(text), memory=512))


def test_what_an_answer_starts_ends_with_it(answer, tmp_path):
    text = (
        "import subprocess, sys, pathlib\n"
        "p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"pathlib.Path({str(tmp_path / 'pid')!r}).write_text(str(p.pid))\n"
    )
    check(answer(text), framework="numpy")
    pid = (tmp_path / "pid").read_text()
    deadline = time.monotonic() + 60
    while lives(pid):  # it was killed; on a busy machine it takes a while to die
        assert time.monotonic() < deadline
        time.sleep(0.05)


def lives(pid):
    """Whether a process runs or sleeps; Z is one that is dead, and not yet buried."""
    listed = subprocess.run(["ps", "-o", "stat=", "-p", pid], capture_output=True)
    return listed.stdout.decode().strip()[:1] not in ("", "Z", "X")


def test_what_an_answer_prints_disturbs_nothing(answer, capfd):
    assert check(answer("print('x' * 100)\n" + RIGHT)).complete
    assert capfd.readouterr() == ("", "")


# --- Mistakes as data ----------------------------------------------------------------


def test_every_mistake_changes_what_some_task_answers():
    names = [t for t in tasks.CASES if t != "fit"]
    empty = [
        comparison.Comparison(task, framework, {})
        for framework in ("torch", "tensorflow")
        for task in names
    ]
    for mistake in MISTAKES:
        assert any(task.changed([mistake]) for task in empty), mistake.name


def test_every_mistake_is_told_from_every_other():
    """No two answer all tasks alike."""
    answered = {}
    for mistake in MISTAKES:
        values = [
            (task, key, None if v is None else v.round(3).tolist())
            for framework in ("torch", "tensorflow")
            for task in tasks.CASES
            if task != "fit"
            for key, v in comparison.predictions(task, framework, (mistake,))
        ]
        answered.setdefault(repr(values), []).append(mistake.name)
    assert [names for names in answered.values() if len(names) > 1] == []


def test_names_are_unique_and_texts_end_without_a_full_stop():
    names = [m.name for m in MISTAKES]
    assert len(names) == len(set(names))
    assert not [m.name for m in MISTAKES if m.message.endswith(".")]
    assert not [m.name for m in MISTAKES if not m.hint.endswith(".")]


def test_adding_a_mistake_is_adding_an_entry(monkeypatch, answer):
    entry = Mistake(
        "thrice",
        {"affine": lambda X_hat, gamma, beta: 3 * X_hat},
        "three times",
        "Why?",
    )
    monkeypatch.setattr(judge, "MISTAKES", [*MISTAKES, entry])
    monkeypatch.setattr(comparison, "MISTAKES", [*MISTAKES, entry])
    changes = [("like(gamma, X) * X_hat + like(beta, X)", "3 * X_hat")]
    found = check(answer(answers.written("numpy", changes)), only="normalize")
    assert str(found) == "normalize: wrong\n  - three times.\n    Why?"


def test_mistakes_that_contradict_each_other_do_not_go_together():
    by_name = {m.name: m for m in MISTAKES}
    inside, missing = by_name["eps: outside the root"], by_name["eps: missing"]
    assert together([inside, missing]) is None
    said = "mistakes must go together; got eps: outside the root and eps: missing"
    with pytest.raises(ValueError, match=f"^{said}$"):
        list(comparison.predictions("normalize", "numpy", [inside, missing]))
    both = by_name["accepts another rank"], by_name["accepts one value per channel"]
    assert together(both).accepts == ("another rank", "one value per channel")
    assert mistakes.together([]) == mistakes.RIGHT


# --- The command line, and a class ---------------------------------------------------


def test_bn_check_prints_the_verdict_and_exits_1(answer, capsys):
    assert cli.main(["check", str(answer(RIGHT))]) == 0
    assert cli.main(["check", str(answer(WRONG["no gamma"]))]) == 1
    assert "gamma is not used" in capsys.readouterr().out
    assert cli.main(["check", f"{answer(WRONG['no gamma'])}::batch_stats"]) == 0


def test_bn_check_json(answer, capsys):
    assert cli.main(["check", str(answer(WRONG["no gamma"])), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["name"], found["framework"] == ("answer.py", "numpy")
    assert (found["right"], found["of"], found["error"]) == (3, 5, "")
    assert found["findings"][1] == {
        "task": "normalize",
        "status": "wrong",
        "mistakes": ["gamma missing"],
        "messages": ["gamma is not used"],
        "differences": "",
    }


def test_bn_check_refuses_what_is_no_file(capsys):
    assert cli.main(["check", "nowhere.py"]) == 2
    error = "bn: error: the answer must be a file; nowhere.py is none\n"
    assert capsys.readouterr().err == error


@pytest.fixture
def school(tmp_path):
    """A folder of answers: right, wrong, broken, unfilled, and files that are none."""
    folder = tmp_path / "class"
    for name, text in {
        "ada/answer.py": RIGHT,
        "ben/answer.py": WRONG["momentum of the old value"],
        "cyd.py": "def batch_stats(X):\n    ...\n",
        "dan.py": "import nothing_of_this_name\n",
        "__pycache__/x.py": "",
        "test_answers.py": "1 / 0",
        "notes.txt": "",
        ".hidden/x.py": "1 / 0",
        "conftest.py": "1 / 0",
    }.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def test_bn_grade_prints_a_table(school, capsys):
    assert cli.main(["grade", str(school), "--jobs", "2"]) == 0
    assert capsys.readouterr().out == (
        "answer         framework  result         mistakes\n"
        "-------------  ---------  -------------  --------\n"
        "ada/answer.py  numpy      5 of 5 right\n"
        "ben/answer.py  numpy      3 of 5 right   momentum weighs the old value\n"
        "cyd.py         numpy      0 of 1 right\n"
        "dan.py         numpy      cannot be run  ModuleNotFoundError: No module named "
        "'nothing_of_this_name' (dan.py, line 1)\n"
    ).replace("--------\n", "-" * 0 + _dashes() + "\n")


def _dashes():
    longest = (
        "ModuleNotFoundError: No module named 'nothing_of_this_name' (dan.py, line 1)"
    )
    return "-" * len(longest)


def test_bn_grade_json_and_csv(school, capsys):
    assert cli.main(["grade", str(school), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [(v["name"], v["right"], v["of"]) for v in found] == [
        ("ada/answer.py", 5, 5),
        ("ben/answer.py", 3, 5),
        ("cyd.py", 0, 1),
        ("dan.py", 0, 0),
    ]
    assert cli.main(["grade", str(school), "--csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    ben = [r for r in rows if r["answer"] == "ben/answer.py" and r["status"] == "wrong"]
    assert [r["task"] for r in ben] == ["update_moving", "batch_norm"]
    assert {r["mistakes"] for r in ben} == {"momentum weighs the old value"}


def test_bn_grade_refuses_an_empty_folder(tmp_path, capsys):
    assert cli.main(["grade", str(tmp_path)]) == 2
    assert capsys.readouterr().err == (
        f"bn: error: {tmp_path} holds no .py and no .ipynb file\n"
    )
    assert cli.main(["grade", str(tmp_path / "no")]) == 2


def test_grading_names_answers_by_their_path(school):
    assert [p.name for p in grade.answers(school)] == [
        "answer.py",
        "answer.py",
        "cyd.py",
        "dan.py",
    ]


def test_a_hole_of_a_session_is_known_without_a_process():
    def batch_stats(X):
        """Statistics."""
        ...

    class BatchNorm:
        def __call__(self, X, training): ...

    found = check(batch_stats, BatchNorm, seconds=0)
    assert str(found) == "batch_stats: not written yet\nBatchNorm: not written yet"
