"""The checker on answers that are right, wrong in one way, and wrong in several."""

import types

import answers
import observing
import pytest

from bn_from_scratch.checker import adapters, tasks, verdict
from bn_from_scratch.checker.cases import CHANNEL_AXES

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of the mistakes

FUNCTIONS = list(tasks.CASES)[:5]
NAMED = 0.9  # the share of wrong answers whose mistakes are to be named, all of them


@pytest.fixture(params=adapters.FRAMEWORKS)
def framework(request):
    with observing.ready(request.param):
        yield request.param


def findings(text, framework, wanted):
    """{task: Finding} of an answer that is run here, not in a process of its own."""
    module = types.ModuleType("answer")
    exec(text, vars(module))
    found = observing.findings(vars(module), framework, wanted)
    return {f.task: f for f in found}


def named(found):
    """The mistakes that were named, and whether they explain all."""
    mistakes = {m.name for f in found.values() for m in [*f.mistakes, *f.before]}
    return mistakes, not any(f.differences for f in found.values())


def of_framework(framework):
    """{name: (text, mistakes, tasks)} of every wrong answer in a framework."""
    wrong = dict(answers.WRONG)
    if framework != "numpy":
        wrong |= answers.WRONG_GRADIENTS
    found = {
        name: (answers.written(framework, changes), mistakes, FUNCTIONS)
        for name, (changes, mistakes) in wrong.items()
    }
    for name, (changes, mistakes) in answers.WRONG_LAYERS.items():
        if text := answers.written_layer(framework, changes):
            wanted = [*FUNCTIONS, "BatchNorm"]
            found[f"layer: {name}"] = (text, mistakes, wanted)
    return found


def test_wrong_answers_are_caught_and_named(framework, record_property):
    wrong = of_framework(framework)
    caught, right, misnamed = 0, 0, []
    for name, (text, mistakes, wanted) in wrong.items():
        found = findings(text, framework, wanted)
        caught += any(f.status == verdict.WRONG for f in found.values())
        names, explained = named(found)
        row, column = "axes: per image row", "axes: per image column"
        other = {row, column} - {column if CHANNEL_AXES[framework] == 1 else row}
        if names == set(mistakes) - other and explained:
            right += 1
        else:
            misnamed.append(f"{name}: {sorted(names)}, explained: {explained}")
    print(f"{framework}: {len(wrong)} wrong, {caught} caught, {right} named right")
    print(*misnamed, sep="\n")
    assert len(wrong) >= 40
    assert caught == len(wrong)
    assert right >= NAMED * len(wrong), misnamed


@pytest.mark.parametrize("way", answers.RIGHT)
def test_a_right_answer_passes_however_it_is_written(framework, way):
    text = answers.written(framework, answers.RIGHT[way])
    found = findings(text, framework, FUNCTIONS)
    assert {
        task: str(f.differences) for task, f in found.items() if f.status != "right"
    } == {}


def test_a_right_layer_passes(framework):
    found = findings(answers.written_layer(framework), framework, ["BatchNorm"])
    assert found["BatchNorm"].status == verdict.RIGHT, found["BatchNorm"].differences
