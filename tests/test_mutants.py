"""The planted bugs fit the code, and the tool that plants them knows who is killed."""

import collections
import importlib.util
import pathlib

ROOT = pathlib.Path(__file__).resolve().parent.parent
PATH = ROOT / "tools" / "mutants.py"
_spec = importlib.util.spec_from_file_location("mutants", PATH)
mutants = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(mutants)


def test_each_bug_can_be_planted():
    planted = mutants.read(ROOT / "tools" / "mutants")
    misfits = {m.title: m.misfit(ROOT) for m in planted if m.misfit(ROOT)}
    assert misfits == {}
    assert len(planted) >= 100
    assert [m.title for m in planted if m.old == m.new] == []
    counts = collections.Counter(m.title for m in planted)
    assert [title for title, n in counts.items() if n > 1] == []


CODE = """
def mean(values):
    total = sum(values) + 0
    return total / len(values)
"""
TESTS = """
from bn_from_scratch import mean

def test_mean():
    assert mean([1, 3]) == 2

def test_nothing():
    pass
"""
DATA = """
[[mutant]]
name = "n + 1"
file = "bn_from_scratch/__init__.py"
old = "len(values)"
new = "(len(values) + 1)"
tests = "test_toy.py -k mean"

[[mutant]]
name = "not seen"
file = "bn_from_scratch/__init__.py"
old = "len(values)"
new = "(len(values) + 1)"
tests = "test_toy.py -k nothing"

[[mutant]]
name = "minus zero"
file = "bn_from_scratch/__init__.py"
old = "+ 0"
new = "- 0"
tests = "test_toy.py -k mean"
changes_nothing = "0 is 0"

[[mutant]]
name = "said to change nothing"
file = "bn_from_scratch/__init__.py"
old = "+ 0"
new = "+ 1"
tests = "test_toy.py -k mean"
changes_nothing = "so it says"

[[mutant]]
name = "stands twice"
file = "bn_from_scratch/__init__.py"
old = "total"
new = "sum"
tests = "test_toy.py -k mean"

[[mutant]]
name = "no code"
file = "bn_from_scratch/__init__.py"
old = "+ 0"
new = "+ nought"
tests = "test_toy.py -k mean"

[[mutant]]
name = "no test"
file = "bn_from_scratch/{backend}.py"
backends = ["toy"]
old = "1"
new = "2"
tests = "test_toy.py -k {backend}_there_is_none"
"""


def test_who_is_killed(tmp_path):
    package, data = tmp_path / "bn_from_scratch", tmp_path / "data"
    package.mkdir()
    data.mkdir()
    (package / "__init__.py").write_text(CODE)
    (package / "toy.py").write_text("one = 1\n")
    (tmp_path / "test_toy.py").write_text(TESTS)
    (data / "toy.toml").write_text(DATA)
    said = []
    amiss = mutants.run(tmp_path, mutants.read(data), jobs=2, say=said.append)
    *lines, last = [line.splitlines()[0] for line in said]
    outcomes = {line[17:].split(" (")[0]: line[:16].strip() for line in lines}
    assert outcomes == {
        "toy: n + 1": "killed",
        "toy: not seen": "survived",
        "toy: minus zero": "changes nothing",
        "toy: said to change nothing": "AMISS",
        "toy: stands twice: `old` stands 2 times in bn_from_scratch/__init__.py": (
            "AMISS"
        ),
        "toy: no code": "AMISS",
        "toy: no test [toy]": "AMISS",
        "test_toy.py -k toy_there_is_none: status 5, 0 passed on the unchanged code": (
            "AMISS"
        ),
    }
    assert last == "1 killed, 1 changes nothing, 1 survived, 5 AMISS"
    assert amiss == 6
    assert (package / "__init__.py").read_text() == CODE
