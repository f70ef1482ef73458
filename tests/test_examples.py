"""Every public class has an example in its docstring, and the example is true.

An example sees its module, and the backend as `bn`.
"""

import doctest
import importlib
import inspect
import io

import pytest
from conftest import load_or_skip

from bn_from_scratch import backends
from bn_from_scratch.checker import adapters

CLASSES = [
    *("BatchNorm", "AccumBatchNorm", "AdjustedBatchNorm", "BatchRenorm"),
    *("FrozenBatchNorm", "FusedBatchNorm", "GhostBatchNorm", "LayerNorm"),
    *("MeanOnlyBatchNorm", "SyncBatchNorm", "TransformedBatchNorm"),
    *("VarOnlyBatchNorm", "LeNet", "BNLeNet", "Trainer"),
]
# Those of the areas above the backends: {module: its public classes}.
AREAS = {
    "spec": [],
    "combinations": [],
    "data": ["Dataset"],
    "training": ["History", "Trainer"],
    "surgery.description": ["Description"],
    "phases": ["Phase"],
    "presentation.table": ["Figure"],
    "compare.runs": ["Distances"],
    "compare.charts": ["Bar", "Chart", "Stroke", "Tick"],
    "course.experiments": ["Run"],
    "course.whitening": ["InverseRoot", "Normalization"],
    "checker": ["Verdict"],
    "checker.adapters": ["StudentLayer"],
    "checker.adapters.numpy": ["Layer"],
    "checker.cases": ["Case"],
    "checker.comparison": ["Comparison"],
    "checker.judge": ["Difference", "Judgement"],
    "checker.layer_script": ["ModelLayer"],
    "checker.mistakes": ["Mistake"],
    "checker.model": ["Steps"],
    "checker.sandbox": ["AnswerError", "Failure"],
    "checker.verdict": ["Finding", "Verdict"],
    "port": ["Report"],
    "port.content": ["Content", "Norm"],
    "diagnosis": ["Cause", "Diagnosis", "ModelDiagnosis"],
    "diagnosis.evidence": ["Deviation"],
    "diagnosis.prediction": ["Hypothesis"],
    "diagnosis.recording": ["Event", "Recording"],
    "diagnosis.scale": ["Scale"],
    "diagnosis.search": ["Explanation"],
    "diagnosis.side": ["Side"],
    "health": ["Health"],
    "health.examine": ["Examined"],
    "health.report": ["Health", "Row"],
    "health.symptoms": ["Symptom"],
}


def check(cls, **names):
    """Fail unless the class has an example, and it prints what it says."""
    text = inspect.cleandoc(cls.__doc__ or "")
    names = vars(inspect.getmodule(cls)) | names
    examples = doctest.DocTestParser().get_doctest(text, names, cls.__name__, None, 0)
    assert examples.examples, f"{cls.__name__} has no example in its docstring"
    report = io.StringIO()
    doctest.DocTestRunner().run(examples, out=report.write)
    if report.getvalue():
        raise AssertionError(report.getvalue())


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize("backend", backends.NAMES)
def test_a_class_of_a_backend(backend, name):
    bn = load_or_skip(backend)
    check(getattr(bn, name), bn=bn)


@pytest.mark.parametrize("backend", backends.NAMES)
def test_no_class_of_a_backend_is_forgotten(backend):
    public = load_or_skip(backend).__all__
    assert sorted(CLASSES) == sorted(name for name in public if name[0].isupper())


def module_of(area):
    if area.startswith("course."):  # its experiments are PyTorch's
        load_or_skip("torch")
    return importlib.import_module(f"bn_from_scratch.{area}")


@pytest.mark.parametrize(
    "area, name", [(area, name) for area, names in AREAS.items() for name in names]
)
def test_a_class_of_an_area(area, name):
    module = module_of(area)
    check(getattr(module, name))


@pytest.mark.parametrize("backend", backends.NAMES)
def test_the_layer_of_an_adapter(backend):
    load_or_skip(backend)
    check(adapters.load(backend).Layer)


@pytest.mark.parametrize("area", AREAS)
def test_no_class_of_an_area_is_forgotten(area):
    module = module_of(area)
    own = [k for k, v in vars(module).items() if inspect.getmodule(v) is module]
    names = getattr(module, "__all__", own)
    public = [name for name in names if inspect.isclass(getattr(module, name))]
    assert sorted(AREAS[area]) == sorted(n for n in public if n[0] != "_")


def test_an_example_that_is_wrong_fails():
    class Wrong:
        """
        >>> 1 + 1
        3
        """

    class Without:
        """No example."""

    with pytest.raises(AssertionError, match=r"Expected:\n    3\nGot:\n    2\n$"):
        check(Wrong)
    with pytest.raises(AssertionError, match=r"^Without has no example in its doc"):
        check(Without)
