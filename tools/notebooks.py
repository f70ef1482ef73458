"""Notebooks from their sources: `python tools/notebooks.py write|run|check [PATH ...]`.

A source is a text (MyST Markdown, read by jupytext) that stands beside its notebook.
`write` makes the .ipynb anew, keeping the outputs of code that did not change; `run`
executes it too; `check` says which notebooks differ from their sources.

A source with `tracks` in its header is one text with several code tracks: a cell tagged
with a framework's name belongs to that framework's notebook only, a cell without such a
tag to all of them.  With `template` it is written as Python files to fill in, too.
"""

import argparse
import copy
import os
import pathlib
import subprocess
import sys
import time

import jupytext
import nbformat
from nbclient import NotebookClient

ROOT = pathlib.Path(__file__).resolve().parent.parent
FOLDERS = ("notebooks", "notebooks/exercises", "solutions")
TEMPLATES = ROOT / "exercises"  # NAME/answer_TRACK.py
TIMEOUT = 900  # seconds a cell may take
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def sources():
    """Every source of the repository, in the order of reading."""
    paths = [p for folder in FOLDERS for p in sorted((ROOT / folder).glob("*.md"))]
    return [p for p in paths if p.name != "README.md"]


def read(source):
    """The notebook of a source, without outputs, for any Python kernel; its tracks."""
    notebook = jupytext.read(source)
    tracks = notebook.metadata.get("tracks", [])
    notebook.metadata = dict(METADATA)
    for i, cell in enumerate(notebook.cells):
        cell.id = f"cell-{i}"
    return notebook, tracks


def targets(source):
    """The notebooks that a source stands for: {path of the .ipynb: notebook}."""
    notebook, tracks = read(source)
    if not tracks:
        return {source.with_suffix(".ipynb"): notebook}
    return {
        source.with_name(f"{source.stem}_{track}.ipynb"): one_track(
            notebook, track, tracks
        )
        for track in tracks
    }


def templates(source):
    """The Python files with holes that a source stands for: {path: text}."""
    if not jupytext.read(source).metadata.get("template"):
        return {}
    found = {}
    for path, notebook in targets(source).items():
        track = path.stem.removeprefix(f"{source.stem}_")
        cells = [c.source for c in notebook.cells if c.cell_type == "code"]
        # The first cell is for hosted notebooks, and a check is for a cell.
        cells = [c for c in cells[1:] if "check" not in c]
        title = '"""Write it yourself: fill the holes, then `bn check` this file."""'
        text = title + "\n\n" + "\n\n\n".join(cells)
        found[TEMPLATES / source.stem / f"answer_{track}.py"] = text + "\n"
    return found


def one_track(notebook, track, tracks):
    """The cells of a notebook that belong to one track."""
    notebook = copy.deepcopy(notebook)
    others = set(tracks) - {track}
    notebook.cells = [
        c for c in notebook.cells if not others & set(c.metadata.get("tags", []))
    ]
    return notebook


def keep_outputs(notebook, path):
    """Give cells the outputs of the notebook on disk, up to the first that changed."""
    if not path.exists():
        return
    old = [c for c in nbformat.read(path, 4).cells if c.cell_type == "code"]
    new = [c for c in notebook.cells if c.cell_type == "code"]
    for before, now in zip(old, new, strict=False):
        if before.source != now.source:
            break
        now.outputs, now.execution_count = before.outputs, before.execution_count


def execute(notebook, folder):
    """Run every cell, in the folder where the notebook lies; returns the seconds."""
    start = time.perf_counter()
    client = NotebookClient(
        notebook,
        timeout=TIMEOUT,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
        record_timing=False,
    )
    # Threads that spin starve each other; the package says so too late for a notebook
    # that imports its framework first.  The kernel's own remarks are not a cell's.
    environment = {"OMP_WAIT_POLICY": "passive"} | os.environ
    client.execute(env=environment, stderr=subprocess.DEVNULL)
    join_streams(notebook)
    notebook.metadata = dict(METADATA)  # without the version of the kernel that ran it
    return time.perf_counter() - start


def join_streams(notebook):
    """One output for what a cell printed, however the kernel cut it up."""
    for cell in notebook.cells:
        joined = []
        for output in cell.get("outputs", []):
            same = joined and output.output_type == joined[-1].output_type == "stream"
            if same and output.name == joined[-1].name:
                joined[-1].text += output.text
            else:
                joined.append(output)
        if "outputs" in cell:
            cell.outputs = joined


def differs(path, notebook):
    """Whether the cells on disk are not those of the source."""
    if not path.exists():
        return True
    on_disk = nbformat.read(path, 4)
    return [(c.cell_type, c.source) for c in on_disk.cells] != [
        (c.cell_type, c.source) for c in notebook.cells
    ]


def main(argv=None):
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("command", choices=("write", "run", "check"))
    parser.add_argument(
        "paths", nargs="*", type=pathlib.Path, help="sources, .ipynb files or folders"
    )
    args = parser.parse_args(argv)
    wanted = {p.resolve() for p in args.paths}
    drifted = False
    for source in sources():
        for path, notebook in targets(source).items():
            if wanted and not wanted & {source, path, *path.parents}:
                continue
            name = path.relative_to(ROOT)
            if args.command == "run":
                seconds = execute(notebook, path.parent)
                print(f"{name}: {seconds:.0f} s", flush=True)
            else:
                keep_outputs(notebook, path)
            if args.command == "check" and differs(path, notebook):
                print(f"{name} differs from {source.name}: make notebooks")
                drifted = True
            if args.command != "check":
                nbformat.write(notebook, path)
        for path, text in templates(source).items():
            if args.command == "check":
                drifted |= not path.exists() or path.read_text() != text
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
    return int(drifted)


if __name__ == "__main__":
    os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")
    sys.exit(main())
