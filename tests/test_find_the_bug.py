"""Find the bug: the checker names every bug, and the smallest fix passes."""

import contextlib
import difflib
import importlib
import json
import pathlib
import sys

import pytest

from bn_from_scratch import backends
from bn_from_scratch.checker import adapters, check, sandbox, sources, tasks, worker
from bn_from_scratch.checker import verdict as verdicts

HERE = pathlib.Path(__file__).resolve().parent
FIXED = HERE / "find_the_bug"
BROKEN = HERE.parent / "exercises" / "find_the_bug"

# What the checker names, and what it says of that for which it has no name.
NAMED = {
    "b01_rows_of_an_image": ["axes: per image row"],
    "b02_a_network_that_stays_new": ["moving averages: not updated"],
    "b03_after_loading": ["moving averages not saved"],
    "b04_the_parameter_file": ["moving averages not saved"],
    "b05_looking_changes_it": ["mode read from the gradient"],
    "b06_nothing_re_estimated": ["training needs a gradient"],
    "b07_as_good_as_the_last_batch": ["momentum weighs the old value"],
    "b08_virtually_the_same_model": [
        "momentum: 0.01 whatever is asked",
        "eps: 1e-3 whatever is asked",
    ],
    "b09_a_dead_channel_wakes": ["eps: 1e-12 whatever is asked"],
    "b10_it_used_to_run": [],
    "b11_the_frozen_half": ["trainable=False ignored"],
    "b12_before_the_first_step": ["initialization counts as a training step"],
    "b13_nobody_complained": ["accepts another rank"],
    "b14a_one_example_at_a_time": ["accepts one value per channel"],
    "b14b_never_a_number_again": ["empty batch"],
    "b15_from_another_framework": ["axes: per image row"],
    "b16_nothing_but_beta": ["variance in 16 bits"],
    "b17_too_many_parameters": ["convolutions padded"],
}
ALSO = {
    "b10_it_used_to_run": "has no attribute 'add_update'",
    "b15_from_another_framework": "should have shape (2, 2), has (2, 3)",
}
every_file = pytest.mark.parametrize("name", NAMED)


def verdict_here(path, monkeypatch):
    """The verdict on a file that is run here: a framework is imported only once."""
    framework = adapters.framework_of_source(sources.code(path))
    if lacking := backends.missing(framework):
        pytest.skip(f"{framework}: {', '.join(lacking)} is not installed")
    backends.load(framework)
    adapter = importlib.import_module(f"bn_from_scratch.checker.adapters.{framework}")
    if framework == "jax":  # other tests may have switched to float64
        import jax

        precision = jax.enable_x64(False)
    else:
        precision = contextlib.nullcontext()
    with precision:
        return observed_verdict(path, framework, adapter, monkeypatch)


def observed_verdict(path, framework, adapter, monkeypatch):
    """The verdict on what a file does when every task's calls are made."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setitem(sys.modules, "answer", None)
    answer = worker.load_answer({"file": str(path), "pickle": None})
    known, findings = [], []
    for task in (t for t in tasks.CASES if t in answer):
        seen = worker.observe(task, answer[task], framework, adapter, str(path))
        seen = {k: sandbox.decode(v) for k, v in json.loads(json.dumps(seen)).items()}
        findings.append(verdicts.find(task, framework, seen, known))
        known += findings[-1].mistakes
    return verdicts.Verdict(path.name, framework, findings)


def changed_lines(name):
    """The lines by which a fix differs from the file."""
    texts = [(d / f"{name}.py").read_text().splitlines() for d in (BROKEN, FIXED)]
    found = list(difflib.unified_diff(*texts, n=0, lineterm=""))[2:]
    return [line for line in found if line[0] in "+-"]


def test_every_file_is_known_and_has_its_fix():
    for folder in (BROKEN, FIXED):
        assert sorted(p.stem for p in folder.glob("*.py")) == sorted(NAMED)
    assert len(NAMED) >= 16


@every_file
def test_the_bug_is_named(name, monkeypatch):
    found = verdict_here(BROKEN / f"{name}.py", monkeypatch)
    assert [f.status for f in found.findings] == ["wrong"]
    mistakes = [m for f in found.as_dict()["findings"] for m in f["mistakes"]]
    assert sorted(mistakes) == sorted(NAMED[name])
    (finding,) = found.findings
    assert ALSO.get(name, "") in finding.differences
    assert bool(finding.differences) == (name in ALSO)


@every_file
def test_the_fix_is_right_and_small(name, monkeypatch):
    assert 1 <= len(changed_lines(name)) <= 12
    assert verdict_here(FIXED / f"{name}.py", monkeypatch).complete


@every_file
def test_the_symptom_is_told_and_the_code_is_short(name):
    text = (BROKEN / f"{name}.py").read_text()
    _, symptom, code = text.split('"""', 2)
    assert f"`bn check exercises/find_the_bug/{name}.py`" in symptom
    assert 4 <= len(symptom.strip().splitlines()) <= 10
    assert 20 <= len(code.strip().splitlines()) <= 60


def test_in_a_process_of_its_own():
    pytest.importorskip("torch")
    name = "b16_nothing_but_beta"
    assert not check(BROKEN / f"{name}.py").right
    assert check(FIXED / f"{name}.py").complete


def test_an_error_is_told_with_its_line(monkeypatch):
    name = "b10_it_used_to_run.py"
    (finding,) = verdict_here(BROKEN / name, monkeypatch).findings
    lines = (BROKEN / name).read_text().splitlines()
    number = next(i for i, line in enumerate(lines, 1) if "self.add_update(" in line)
    assert f"({name}, line {number})" in finding.differences
