"""The four backends stay in step: same files, names, arguments and equation tags.

Reads syntax trees only, so it needs no framework.
"""

import ast
import pathlib
import re

import pytest

from bn_from_scratch import backends

ROOT = pathlib.Path(backends.__file__).parent
FILES = ("batch_norm.py", "builtin.py", "lenet.py", "probe.py", "trainer.py")
TRANSLATIONS = [name for name in backends.NAMES if name != "torch"]

# What one backend has and the others cannot have, with the reason.
OWN = {
    ("jax", "builtin.py", "call"): "Flax's layer takes use_running_average",
    ("mxnet", "trainer.py", "SGD"): "MXNet's own reads its lr as float32",
}
# Methods of a class that every backend must have; the rest is the framework's idiom.
METHODS = {
    "BatchNorm": ("train_forward", "eval_forward"),
    "Trainer": ("prepare", "train_step", "logits", "get_weights", "write_weights"),
}
# The same thing under the word that is true of it: a Flax module has no weights.
SYNONYMS = {"variables": "model"}


def outline(backend, file):
    """Public functions and classes in order, each with the names of its arguments."""
    found = []
    for node in ast.parse((ROOT / backend / file).read_text()).body:
        name = getattr(node, "name", "_")
        if name.startswith("_") or (backend, file, name) in OWN:
            continue
        if isinstance(node, ast.FunctionDef):
            found.append((name, arguments(node)))
        if isinstance(node, ast.ClassDef):
            methods = {m.name: m for m in node.body if isinstance(m, ast.FunctionDef)}
            if "__init__" in methods:
                found.append((name, arguments(methods["__init__"])))
            elif fields := [
                f.target.id for f in node.body if isinstance(f, ast.AnnAssign)
            ]:
                found.append((name, fields))
            for method in METHODS.get(name, ()):
                found.append((f"{name}.{method}", arguments(methods[method])))
    return found


def arguments(function):
    """Names of the arguments in order, with a * where the keyword-only ones begin."""
    args = function.args
    names = [a.arg for a in args.args if a.arg != "self"]
    names += ["*", *(a.arg for a in args.kwonlyargs)] if args.kwonlyargs else []
    return [SYNONYMS.get(name, name) for name in names]


def equation_tags(backend):
    return re.findall(r"# \((\d+'?)\)", (ROOT / backend / "batch_norm.py").read_text())


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("backend", TRANSLATIONS)
def test_every_file_is_a_translation_of_the_torch_file(backend, file):
    assert outline(backend, file) == outline("torch", file)


def test_the_outline_sees_the_core():
    """A guard for the guard: an outline of nothing would equal every other."""
    names = [name for name, _ in outline("torch", "batch_norm.py")]
    assert names == [
        "promote",
        "channel_mean",
        "batch_stats",
        "normalize",
        "update_moving",
        "batch_norm",
        "BatchNorm",
        "BatchNorm.train_forward",
        "BatchNorm.eval_forward",
    ]


@pytest.mark.parametrize("backend", backends.NAMES)
def test_the_core_quotes_each_forward_equation_once(backend):
    assert equation_tags(backend) == ["1", "2", "3", "4", "5", "6"]


@pytest.mark.parametrize("backend", backends.NAMES)
def test_the_core_is_short(backend):
    """The algorithm ends before the layer begins, on one screen."""
    lines = (ROOT / backend / "batch_norm.py").read_text().splitlines()
    assert len(lines) <= 125
    assert next(i for i, line in enumerate(lines) if "class BatchNorm" in line) <= 75


@pytest.mark.parametrize("backend", TRANSLATIONS)
def test_the_public_names_are_the_same(backend):
    assert public_names(backend) == public_names("torch")


def public_names(backend):
    tree = ast.parse((ROOT / backend / "__init__.py").read_text())
    assigned = [n for n in tree.body if isinstance(n, ast.Assign)]
    return ast.literal_eval(assigned[-1].value)
