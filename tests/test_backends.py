"""An absent framework costs nothing but its own rows."""

import pydoc
import re
import subprocess
import sys

import pytest

import bn_from_scratch
from bn_from_scratch import backends, cli
from bn_from_scratch.cli import common

MESSAGE = "the jax backend needs flax: pip install 'bn-from-scratch[jax]'"


@pytest.fixture
def without_flax(monkeypatch):
    """An environment that has everything else, as far as anybody can tell."""

    def find_spec(name):
        return None if name == "flax" else object()

    monkeypatch.setattr(backends.importlib.util, "find_spec", find_spec)


def test_the_package_imports_no_framework():
    code = (
        "import sys, bn_from_scratch, bn_from_scratch.cli as cli; cli.parser(); "
        "known = {'numpy', 'torch', 'tensorflow', 'keras', 'jax', 'flax', 'mxnet', "
        "'matplotlib', 'safetensors'}; print(known & set(sys.modules))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True
    )
    assert (answer.stdout, answer.stderr) == ("set()\n", "")


def test_an_absent_framework_is_named_with_its_cure(without_flax, capsys):
    assert "jax" not in backends.installed()
    with pytest.raises(ImportError) as caught:
        backends.load("jax")
    assert str(caught.value) == MESSAGE
    with pytest.raises(ImportError, match=r"^the jax backend needs flax"):
        from bn_from_scratch import jax  # noqa: F401
    assert cli.main(["compare", "layer", "--backends", "jax"]) == 2
    assert capsys.readouterr().err == f"bn: error: {MESSAGE}\n"


def test_a_comparison_leaves_the_absent_out(without_flax, capsys):
    assert "jax" not in common.chosen_backends()
    notes = capsys.readouterr().err
    assert "jax is not installed: pip install 'bn-from-scratch[jax]'\n" in notes


def test_no_framework_at_all(monkeypatch, capsys):
    monkeypatch.setattr(backends, "installed", lambda: [])
    assert cli.main(["compare", "layer"]) == 2
    message = "bn: error: no framework is installed: pip install 'bn-from-scratch[all]'"
    assert capsys.readouterr().err.splitlines()[-1] == message


def test_unknown_names():
    with pytest.raises(ValueError) as caught:
        backends.load("caffe")
    assert str(caught.value) == (
        "backend must be one of torch, tensorflow, jax, mxnet; got 'caffe'"
    )
    with pytest.raises(AttributeError, match="has no attribute 'caffe'"):
        bn_from_scratch.caffe  # noqa: B018
    assert set(backends.NAMES) <= set(dir(bn_from_scratch))


def test_a_framework_that_breaks_on_import_says_why(monkeypatch):
    def broken(name):
        raise AttributeError("module 'numpy' has no attribute 'bool'")

    monkeypatch.setattr(backends, "load", broken)
    with pytest.raises(ImportError) as caught:
        from bn_from_scratch import mxnet  # noqa: F401
    assert str(caught.value) == (
        "the mxnet backend fails to import: module 'numpy' has no attribute 'bool'"
    )


def test_a_backend_shows_its_interface_and_no_inner_module(bn):
    shown = [name for name in dir(bn) if not name.startswith("__")]
    assert sorted(shown) == sorted(bn.__all__)
    text = pydoc.plain(pydoc.render_doc(bn))
    titles = re.findall(r"^[A-Z][A-Z ]+$", text, re.MULTILINE)
    assert titles[-4:] == ["CLASSES", "FUNCTIONS", "DATA", "FILE"]
    assert set(titles[:-4]) <= {"NAME", "DESCRIPTION"}
    for name in bn.__all__:
        assert re.search(rf"^    (class )?{name}\(", text, re.MULTILINE), name
