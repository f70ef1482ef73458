"""What the package shows of itself: names, help and version, whatever is installed."""

import ast
import importlib
import importlib.metadata
import inspect
import pathlib
import pkgutil
import pydoc
import subprocess
import sys
import tomllib

import pytest

import bn_from_scratch
from bn_from_scratch import backends, cli

# Modules of the package that nobody is to look for.
INNER = {"case", "download", "files", "garments", "reading", "signatures", "text"}
FRAMEWORKS = {package for packages in backends.NEEDS.values() for package in packages}
ABSENT = """
import sys

class Without:
    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, *args):
        absent = name.partition(".")[0] in {absent!r}
        return None if absent else self.finder.find_spec(name, *args)

sys.meta_path[:] = map(Without, sys.meta_path)
import bn_from_scratch
"""


def without(absent, code):
    """What code prints where these packages are absent, and those it imported."""
    code = ABSENT.replace("{absent!r}", repr(set(absent))) + code
    code += f"\nprint(sorted({FRAMEWORKS!r} & set(sys.modules)))"
    command = [sys.executable, "-c", code]
    answer = subprocess.run(command, capture_output=True, text=True)
    assert answer.stderr == ""
    *said, imported = answer.stdout.splitlines()
    return said, imported


@pytest.mark.parametrize("absent", [*sorted(FRAMEWORKS), "torch tensorflow jax mxnet"])
def test_help_needs_no_framework(absent):
    said, imported = without(absent.split(), "help(bn_from_scratch)")
    assert said[0] == "Help on package bn_from_scratch:"
    text = inspect.getdoc(bn_from_scratch).splitlines()[2:]
    start = said.index("DESCRIPTION") + 1
    assert [line.strip() for line in said[start : start + len(text)]] == [
        line.strip() for line in text
    ]
    assert f"    {bn_from_scratch.__version__}" in said
    assert imported == "[]"


@pytest.mark.parametrize("absent", sorted(FRAMEWORKS))
def test_dir_shows_the_interface(absent):
    said, imported = without([absent], "print(*dir(bn_from_scratch), sep='\\n')")
    assert said == dir(bn_from_scratch)
    assert imported == "[]"
    shown = {"__version__", *backends.NAMES, *bn_from_scratch.MODULES}
    assert dir(bn_from_scratch) == sorted(shown)


def test_every_module_is_public_or_known_to_be_inner():
    modules = {module.name for module in pkgutil.iter_modules(bn_from_scratch.__path__)}
    assert modules == INNER | set(bn_from_scratch.MODULES)
    assert not INNER & set(bn_from_scratch.MODULES)


def test_what_is_shown_is_there():
    code = "for name in bn_from_scratch.MODULES: print(getattr(bn_from_scratch, name))"
    said, imported = without(["mxnet"], code)
    names = [line.split("'")[1] for line in said]
    assert names == [f"bn_from_scratch.{name}" for name in bn_from_scratch.MODULES]
    assert imported == "[]"


def test_the_docstring_says_what_is_where():
    lines = [line.split() for line in bn_from_scratch.__doc__.splitlines()]
    assert [f"{name}," for name in backends.NAMES[:-1]] + ["mxnet"] in lines
    assert set(bn_from_scratch.MODULES) <= {line[0] for line in lines if line}


def test_an_absent_framework_is_named_when_it_is_asked_for():
    code = """
try:
    from bn_from_scratch import mxnet
except ImportError as error:
    print(error)
try:
    bn_from_scratch.mxnet
except ImportError as error:
    print(error)
"""
    said, imported = without(["mxnet"], code)
    message = "the mxnet backend needs mxnet: pip install 'bn-from-scratch[mxnet]'"
    assert (said, imported) == ([message, message], "[]")


def test_editors_see_every_backend():
    tree = ast.parse(pathlib.Path(bn_from_scratch.__file__).read_text("utf-8"))
    (block,) = [n for n in tree.body if isinstance(n, ast.If)]
    assert ast.unparse(block.test) == "TYPE_CHECKING"
    imports = [n for n in block.body if isinstance(n, ast.ImportFrom)]
    seen = {alias.asname: n.module for n in imports for alias in n.names}
    assert seen == {name: f"{backends.__name__}.{name}" for name in backends.NAMES}
    (exported,) = [n.value for n in block.body if isinstance(n, ast.Assign)]
    assert sorted(ast.literal_eval(exported)) == sorted(backends.NAMES)


# --- Version -------------------------------------------------------------------------


def in_pyproject():
    project = pathlib.Path(__file__).parent.parent / "pyproject.toml"
    return tomllib.loads(project.read_text("utf-8"))["project"]["version"]


def absent(name):
    raise importlib.metadata.PackageNotFoundError(name)


def test_the_version_is_that_of_the_project(capsys):
    assert bn_from_scratch.__version__ == in_pyproject()
    with pytest.raises(SystemExit) as ended:
        cli.main(["--version"])
    assert ended.value.code == 0
    said = capsys.readouterr()
    assert (said.out, said.err) == (f"bn_from_scratch {in_pyproject()}\n", "")


def test_a_checkout_that_is_not_installed_has_it_too(monkeypatch, tmp_path):
    monkeypatch.setattr(importlib.metadata, "version", absent)
    assert bn_from_scratch.__version__ == in_pyproject()
    copied = tmp_path / "bn_from_scratch" / "__init__.py"
    monkeypatch.setattr(bn_from_scratch, "__file__", str(copied))
    assert bn_from_scratch.__version__ == "0+unknown"


@pytest.mark.parametrize(
    "area, names",
    [
        ("checker", ["Verdict", "assert_right", "check"]),
        ("port", ["Report", "evaluate", "port"]),
        (
            "diagnosis",
            [
                *("Cause", "Diagnosis", "ModelDiagnosis"),
                *("diagnose", "load", "record", "save"),
            ],
        ),
        ("health", ["Health", "health"]),
    ],
)
def test_dir_of_an_area_shows_its_interface(area, names):
    module = importlib.import_module(f"bn_from_scratch.{area}")
    assert dir(module) == names
    shown = pydoc.render_doc(module, renderer=pydoc.plaintext)
    for name in names:
        assert f"    {name}(" in shown or f"class {name}(" in shown
