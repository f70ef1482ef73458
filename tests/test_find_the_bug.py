"""Find the bug: the checker names every bug, and the smallest fix passes."""

import difflib
import sys

import observing
import pytest
from fixes import BROKEN, FIXES, fixed

from bn_from_scratch.checker import adapters, check, sources, tasks, worker
from bn_from_scratch.checker.verdict import Verdict

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


@pytest.fixture
def repaired(name, tmp_path):
    """A file with the fixed code, under the name of the broken one."""
    path = tmp_path / f"{name}.py"
    path.write_text(fixed(name))
    return path


def verdict_here(path, monkeypatch):
    """The verdict on a file that is run here: a framework is imported only once."""
    framework = adapters.framework_of_source(sources.code(path))
    with observing.ready(framework):
        monkeypatch.setattr(sys, "path", list(sys.path))
        monkeypatch.setitem(sys.modules, "answer", None)
        answer = worker.load_answer({"file": str(path), "pickle": None})
        wanted = tasks.asked(answer, framework)
        findings = observing.findings(answer, framework, wanted, str(path))
        return Verdict(path.name, framework, findings)


def test_every_file_is_known_and_has_its_fix():
    files = sorted(p.stem for p in BROKEN.glob("*.py"))
    assert files == sorted(NAMED) == sorted(FIXES)
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
def test_the_fix_is_right_and_small(name, repaired, monkeypatch):
    texts = (BROKEN / f"{name}.py").read_text(), repaired.read_text()
    lines = list(difflib.unified_diff(*(t.splitlines() for t in texts), n=0))[2:]
    assert 1 <= sum(line[0] in "+-" for line in lines) <= 12
    assert verdict_here(repaired, monkeypatch).complete


@every_file
def test_the_symptom_is_told_and_the_code_is_short(name):
    text = (BROKEN / f"{name}.py").read_text()
    _, symptom, code = text.split('"""', 2)
    assert f"`bn check exercises/find_the_bug/{name}.py`" in symptom
    assert 4 <= len(symptom.strip().splitlines()) <= 10
    assert 20 <= len(code.strip().splitlines()) <= 60


@pytest.mark.parametrize("name", ["b16_nothing_but_beta"])
def test_in_a_process_of_its_own(name, repaired):
    pytest.importorskip("torch")
    assert not check(BROKEN / f"{name}.py").right
    assert check(repaired).complete


def test_an_error_is_told_with_its_line(monkeypatch):
    name = "b10_it_used_to_run.py"
    (finding,) = verdict_here(BROKEN / name, monkeypatch).findings
    lines = (BROKEN / name).read_text().splitlines()
    number = next(i for i, line in enumerate(lines, 1) if "self.add_update(" in line)
    assert f"({name}, line {number})" in finding.differences
