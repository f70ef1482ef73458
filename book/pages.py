"""From executed notebooks to the pages that Sphinx reads.

A notebook becomes one page: its setup cell is left out and its links are made those of
the book.  A source with `tracks` was generated into one notebook per framework; here
they become one page again, in the order of the source.  What all tracks share stands
once; cells of one framework stand between markers, of which `tabs.py` makes a tab set.
"""

import fnmatch
import os
import pathlib
import re
import shutil
import sys

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))

import notebooks  # noqa: E402

NAMES = {
    "torch": "PyTorch",
    "tensorflow": "TensorFlow",
    "jax": "JAX",
    "mxnet": "MXNet",
    "numpy": "NumPy",
}
FOLDERS = ("", "exercises")  # of the notebooks; solutions are no part of the book
SETUP = 'find_spec("bn_from_scratch")'  # in the cell that installs the package
FENCE = re.compile(r"(^(?:```|~~~).*?^(?:```|~~~)[ \t]*$)", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"(!?\[[^\[\]]*\])\((?!\w+:|#|/)([^)#\s]+)(#[^)\s]*)?\)")
PATTERN = re.compile(r"^\S*\*$", re.MULTILINE)
HEADING = re.compile(r"^#{1,6} ", re.MULTILINE)


class Unready(Exception):
    """A notebook cannot go into the book as it is."""


def write_pages(folder, target, index=ROOT / "book/index.md"):
    """Write the first page and one for every source of a folder of notebooks."""
    sources = [
        source
        for name in FOLDERS
        for source in sorted((folder / name).glob("*.md"))
        if source.name != "README.md"
    ]
    made = {source: executed(source) for source in sources}
    links = Links(folder, target, made)
    target.mkdir(parents=True)
    documents = [s.relative_to(folder).with_suffix("").as_posix() for s in sources]
    text = chapters(index.read_text(), documents)
    first = target / "index.md"
    first.write_text(links.rewrite(text, index, first))
    for source, tracks in made.items():
        page = target / source.relative_to(folder).with_suffix(".ipynb")
        notebook = page_of(source, tracks)
        for cell in notebook.cells:
            if cell.cell_type == "markdown":
                cell.source = links.rewrite(cell.source, source, page)
        add_download(notebook, [links.carry(path, page) for path in tracks])
        page.parent.mkdir(exist_ok=True)
        nbformat.write(notebook, page)


def chapters(text, documents):
    """The first page, each line that is a pattern replaced by the documents it fits."""

    def names(match):
        found = fnmatch.filter(documents, match[0])
        documents[:] = [name for name in documents if name not in found]
        return "\n".join(found)

    return PATTERN.sub(names, text)


def executed(source):
    """The notebooks that a source stands for, all of them run: {path: notebook}."""
    found = {}
    for path, wanted in notebooks.targets(source).items():
        if not path.exists():
            raise Unready(f"{path.name} is missing: make notebooks")
        if notebooks.differs(path, wanted):
            raise Unready(f"{path.name} differs from {source.name}: make notebooks")
        found[path] = nbformat.read(path, 4)
        if any(
            c.cell_type == "code" and c.source and c.execution_count is None
            for c in found[path].cells
        ):
            raise Unready(f"{path.name} was not executed: make notebooks")
    return found


def page_of(source, found):
    """The notebook of a page."""
    text, tracks = notebooks.read(source)
    if tracks:
        cells = merged(text.cells, dict(zip(tracks, found.values(), strict=True)))
    else:
        cells = next(iter(found.values())).cells
    page = new_notebook(metadata=text.metadata)
    page.cells = [c for c in cells if SETUP not in c.source]
    return page


def merged(cells, tracks):
    """The cells of a source, each with its outputs; runs of one framework marked."""
    rest = {track: iter(notebook.cells) for track, notebook in tracks.items()}
    page, run = [], {}
    for cell in cells:
        own = [t for t in tracks if t in cell.metadata.get("tags", [])]
        if own:
            if cell.cell_type == "markdown" and HEADING.search(cell.source):
                raise Unready(f"a heading cannot stand in a tab: {cell.source[:40]!r}")
            run.setdefault(own[0], []).append(next(rest[own[0]]))
            continue
        page += tab_cells(tracks, run)
        run = {}
        same = {track: next(cells_of) for track, cells_of in rest.items()}
        first, *others = same.values()
        if all(shown(first) == shown(other) for other in others):
            page.append(first)
        else:  # the code once, what it printed in each framework in tabs
            page.append(new_code_cell(first.source, metadata=first.metadata))
            printed = {t: [only_outputs(c)] for t, c in same.items() if shown(c)}
            page += tab_cells(tracks, printed)
    return page + tab_cells(tracks, run)


def tab_cells(tracks, run):
    """The cells of {track: cells} between markers, in the order of the tracks."""
    run = {t: [c for c in run.get(t, []) if SETUP not in c.source] for t in tracks}
    run = {track: cells for track, cells in run.items() if cells}
    if not run:
        return []
    page = []
    for track, cells in run.items():
        page += [new_markdown_cell(f"+++ tab: {track} {NAMES[track]}"), *cells]
    return [*page, new_markdown_cell("+++ tab: end")]


def shown(cell):
    """What a reader sees of a cell's outputs."""
    seen = []
    for output in cell.get("outputs", []):
        if output.output_type == "stream":
            if output.name == "stdout":
                seen.append(output.text)
        elif "data" in output:
            rich = {k: v for k, v in output.data.items() if k != "text/plain"}
            seen.append(rich or output.data)
        else:
            seen.append(output)
    return seen


def only_outputs(cell):
    """A cell that shows the outputs of another, not its code."""
    return new_code_cell(
        cell.source, outputs=cell.outputs, metadata={"tags": ["remove-input"]}
    )


def add_download(notebook, files):
    """Under the title, say which notebook the page is, and give it to the reader."""
    names = ", ".join(f"[{pathlib.Path(f).name}](<path:{f}>)" for f in files)
    several = "s" if len(files) > 1 else ""
    note = f"```{{div}} notebook-files\nNotebook{several}: {names}\n```"
    title, newline, rest = notebook.cells[0].source.partition("\n")
    if not title.startswith("# "):
        raise Unready(f"the first line is not a title: {title!r}")
    notebook.cells[0].source = f"{title}\n\n{note}\n{newline}{rest}"


class Links:
    """The relative links of notebooks, as they are in the book."""

    def __init__(self, folder, target, made):
        self.folder, self.target = folder, target
        self.pages = {}  # path of a notebook: (page, framework or None)
        for source, found in made.items():
            for path in found:
                track = path.stem.removeprefix(source.stem).removeprefix("_")
                page = target / source.relative_to(folder).with_suffix(".ipynb")
                self.pages[path.resolve()] = page, track or None

    def rewrite(self, text, origin, page):
        """Markdown of the file `origin` with the links it has in the book's `page`."""

        def link(match):
            words, path = match[1], (origin.parent / match[2]).resolve()
            fragment = (match[3] or "").lower()  # Jupyter's anchors have capitals
            if path in self.pages:
                to, track = self.pages[path]
                to = os.path.relpath(to, page.parent)
                if track:  # the page opens with the tabs of this framework
                    to = to.removesuffix(".ipynb") + f".html?framework={track}"
                    to = f"framework:{to}"
                return f"{words}({to}{fragment})"
            if not path.is_file():
                return match[0]  # leads nowhere: Sphinx says so
            if path.suffix in (".md", ".ipynb"):  # of the repository, not of the book
                return f"{words[1:-1]} (`{os.path.relpath(path, self.folder.parent)}`)"
            return f"{words}({self.carry(path, page)})"

        parts = FENCE.split(text)
        parts[::2] = [LINK.sub(link, part) for part in parts[::2]]
        return "".join(parts)

    def carry(self, path, page):
        """Copy a file to where the page can show or offer it; the path from there."""
        copy = self.target / "_files" / path.relative_to(path.anchor)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
        return os.path.relpath(copy, page.parent)
