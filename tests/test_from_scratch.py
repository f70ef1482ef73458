"""notebooks/02_from_scratch: one text, four tracks, the same numbers in each.

Reads the source and the committed notebooks; runs nothing and needs no framework.
"""

import importlib.util
import itertools
import pathlib

import pytest

pytest.importorskip("jupytext")
nbformat = pytest.importorskip("nbformat")
pytest.importorskip("nbclient")

ROOT = pathlib.Path(__file__).resolve().parent.parent
SOURCE = ROOT / "notebooks" / "02_from_scratch.md"
TRACKS = ["torch", "tensorflow", "jax", "mxnet"]


def load_tool():
    place = ROOT / "tools" / "notebooks.py"
    spec = importlib.util.spec_from_file_location("notebooks_tool", place)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    return tool


@pytest.fixture(scope="module")
def source():
    """The cells of the source, those of all tracks."""
    notebook, tracks = load_tool().read(SOURCE)
    assert tracks == TRACKS
    return notebook.cells


@pytest.fixture(scope="module")
def committed():
    """{track: its notebook, with outputs}."""
    paths = {t: SOURCE.with_name(f"{SOURCE.stem}_{t}.ipynb") for t in TRACKS}
    return {track: nbformat.read(path, 4) for track, path in paths.items()}


def track_of(cell):
    tags = [tag for tag in cell.metadata.get("tags", []) if tag in TRACKS]
    assert len(tags) < 2, f"a cell of several tracks: {cell.source}"
    return tags[0] if tags else None


def runs_of(cells):
    """Each run of tagged cells, as [(track, its cells in this run), ...]."""
    for tagged, run in itertools.groupby(cells, lambda c: track_of(c) is not None):
        if tagged:
            yield [(t, list(own)) for t, own in itertools.groupby(run, track_of)]


def printed(cell):
    """What a code cell shows, but for pictures."""
    shown = []
    for output in cell.outputs:
        texts = {"stream": output.get("text", "")} | dict(output.get("data", {}))
        shown += [v for kind, v in texts.items() if not kind.startswith("image/")]
    return shown


def untagged_code(notebook):
    """{id: cell} of the code cells that belong to every track."""
    cells = [c for c in notebook.cells if c.cell_type == "code"]
    return {c.id: c for c in cells if track_of(c) is None}


def headings(cells):
    lines = [
        line
        for cell in cells
        if cell.cell_type == "markdown"
        for line in cell.source.splitlines()
    ]
    return [line for line in lines if line.startswith("#")]


def test_every_run_of_tagged_cells_covers_the_tracks_once_each_in_order(source):
    runs = list(runs_of(source))
    assert runs
    for run in runs:
        first = run[0][1][0].source
        assert [track for track, _ in run] == TRACKS, f"the run that begins: {first}"


def test_in_a_run_each_track_has_one_code_cell_after_at_most_one_text(source):
    for run in runs_of(source):
        for track, cells in run:
            kinds = [cell.cell_type for cell in cells]
            message = f"{track}, the cell that begins: {cells[0].source}"
            assert kinds in (["code"], ["markdown", "code"]), message


def test_every_code_cell_was_run_from_top_to_bottom(committed):
    for track, notebook in committed.items():
        counts = [c.execution_count for c in notebook.cells if c.cell_type == "code"]
        assert counts == list(range(1, len(counts) + 1)), track


def test_untagged_code_prints_the_same_in_every_track(committed):
    cells = {track: untagged_code(notebook) for track, notebook in committed.items()}
    reference = cells[TRACKS[0]]
    assert any(printed(cell) for cell in reference.values())
    for track, own in cells.items():
        assert list(own) == list(reference), track
        for name, cell in own.items():
            assert cell.source == reference[name].source, (track, name)
            assert printed(cell) == printed(reference[name]), (track, cell.source)


def test_headings_are_the_same_in_every_track(source, committed):
    wanted = headings(source)
    assert wanted
    for track, notebook in committed.items():
        assert headings(notebook.cells) == wanted, track
