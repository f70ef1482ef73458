"""Every notebook: like its source, honest in what it shows, and running to its end."""

import ast
import importlib.util
import itertools
import pathlib
import re

import nbformat
import pytest

from bn_from_scratch import backends

ROOT = pathlib.Path(__file__).resolve().parent.parent
LONGEST = 15  # lines of a function or class that a notebook may define
LINK = re.compile(r"(?<!\!)\[[^\]]*\]\(([^)\s]+)\)|<img[^>]*src=\"([^\"]+)\"")
# A path from the root of a file system; </b> and https:// are none.
ABSOLUTE = re.compile(r"(?<![\w<:/.\])])/[a-z][\w.-]+/[\w./-]+|\b[A-Z]:\\")
SETUP = re.compile(
    r"import importlib\.util\n\n"
    r"if importlib\.util\.find_spec\(\"bn_from_scratch\"\) is None:"
    r"  # a hosted notebook\n"
    r"    %pip install --quiet \"bn-from-scratch(?:\[([a-z,]+)\])?\""
)


def load_tool():
    spec = importlib.util.spec_from_file_location("n", ROOT / "tools" / "notebooks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


tool = load_tool()
TARGETS = {
    path.relative_to(ROOT).as_posix(): (path, notebook)
    for source in tool.sources()
    for path, notebook in tool.targets(source).items()
}


@pytest.fixture(params=TARGETS)
def path(request):
    return TARGETS[request.param][0]


def cells(path, kind):
    return [c for c in nbformat.read(path, 4).cells if c.cell_type == kind]


def outputs(path):
    return [o for cell in cells(path, "code") for o in cell.outputs]


def test_no_notebook_differs_from_its_source():
    assert tool.main(["check"]) == 0
    on_disk = {p for folder in tool.FOLDERS for p in (ROOT / folder).glob("*.ipynb")}
    assert on_disk == {path for path, _ in TARGETS.values()}


def test_a_changed_cell_is_a_difference(tmp_path):
    path, notebook = next(iter(TARGETS.values()))
    changed = nbformat.read(path, 4)
    changed.cells[0].source += " "
    nbformat.write(changed, tmp_path / path.name)
    assert tool.differs(tmp_path / path.name, notebook)
    assert not tool.differs(path, notebook)
    assert tool.differs(tmp_path / "none.ipynb", notebook)


def test_outputs_of_unchanged_cells_are_kept(tmp_path):
    def notebook(*sources):
        made = [nbformat.v4.new_code_cell(s) for s in sources]
        return nbformat.v4.new_notebook(cells=made)

    old = notebook("a = 1", "a", "a + 1")
    for number, cell in enumerate(old.cells):
        text = nbformat.v4.new_output("stream", text=str(number))
        cell.outputs, cell.execution_count = [text], number
    nbformat.write(old, tmp_path / "old.ipynb")
    new = notebook("a = 1", "a * 2", "a + 1")
    tool.keep_outputs(new, tmp_path / "old.ipynb")
    assert [len(c.outputs) for c in new.cells] == [1, 0, 0]


def test_the_first_code_cell_installs_what_is_missing(path):
    assert SETUP.fullmatch(cells(path, "code")[0].source)


def test_it_begins_with_one_title(path):
    text = "\n".join(c.source for c in cells(path, "markdown"))
    text = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    levels = [len(m) for m in re.findall(r"^(#+) ", text, flags=re.MULTILINE)]
    assert cells(path, "markdown")[0].source.startswith("# ")
    assert levels.count(1) == 1
    assert all(b - a <= 1 for a, b in itertools.pairwise(levels))


def test_it_defines_nothing_long(path):
    for cell in cells(path, "code"):
        source = re.sub(r"^(\s*)[%!].*$", r"\1pass", cell.source, flags=re.MULTILINE)
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
                lines = node.end_lineno - first + 1
                assert lines <= LONGEST, f"{node.name} has {lines} lines"


def test_links_and_pictures_are_there(path):
    for cell in cells(path, "markdown"):
        for found in LINK.findall(cell.source):
            target = (found[0] or found[1]).split("#")[0]
            if target and not re.match(r"https?://", target):
                assert (path.parent / target).exists(), target


def test_every_cell_ran_in_order_and_without_noise(path):
    code = [c for c in cells(path, "code") if c.source.strip()]
    assert [c.execution_count for c in code] == list(range(1, len(code) + 1))
    for output in outputs(path):
        assert output.output_type != "error"
        assert output.get("name") != "stderr", output.text


def test_it_shows_nothing_of_the_machine(path):
    for cell in cells(path, "code"):
        for output in cell.outputs:
            shown = [output.get("text", ""), *output.get("traceback", [])]
            shown += [str(v) for k, v in output.get("data", {}).items() if "text" in k]
            for text in shown:
                assert not ABSOLUTE.search(text), ABSOLUTE.search(text)[0]
                assert "site-packages" not in text and "ipykernel_" not in text


@pytest.mark.parametrize("text", ['File "/some/where.py"', "in /some/b1", "D:\\a"])
def test_a_path_of_a_machine_is_seen(text):
    assert ABSOLUTE.search(text)


@pytest.mark.parametrize("text", ["https://a.org/b/c", "<b>a</b>", "n/(n-1)", "3 / 4"])
def test_other_slashes_are_no_paths(text):
    assert not ABSOLUTE.search(text)


@pytest.mark.notebook
def test_it_runs_to_its_end(path, monkeypatch):
    extras = SETUP.fullmatch(cells(path, "code")[0].source)[1] or ""
    for name in extras.split(",") if extras not in ("", "all") else []:
        if backends.missing(name):
            pytest.skip(f"{name} is not installed")
    monkeypatch.setenv("BN_QUICK", "1")
    notebook = TARGETS[path.relative_to(ROOT).as_posix()][1]
    tool.execute(notebook, path.parent)
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            text = output.get("text", "") if output.get("name") == "stderr" else ""
            assert not text or text.startswith("Using garments drawn by code"), text


def test_size_takes_the_quick_one_where_it_is_asked_for(monkeypatch):
    from bn_from_scratch.course import size

    monkeypatch.delenv("BN_QUICK", raising=False)
    assert size(100, 3) == 100
    monkeypatch.setenv("BN_QUICK", "0")
    assert size(100, 3) == 100
    monkeypatch.setenv("BN_QUICK", "1")
    assert size(100, 3) == 3
