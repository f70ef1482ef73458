"""Build the book: `python book/build.py` writes book/_build/html from the notebooks.

No notebook is executed.  A warning of Sphinx is an error: a link that leads nowhere, a
formula or heading it cannot read.
"""

import argparse
import pathlib
import shutil
import sys

from sphinx.cmd.build import main as sphinx

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import pages  # noqa: E402


def build(notebooks, out):
    """Build the book of a folder of notebooks below `out`; returns the exit status."""
    for name in ("pages", "doctrees", "jupyter_execute", "html"):
        shutil.rmtree(out / name, ignore_errors=True)
    try:
        pages.write_pages(notebooks, out / "pages")
    except pages.Unready as error:
        print(f"book: {error}", file=sys.stderr)
        return 1
    options = ["--fail-on-warning", "--keep-going", "--quiet", "--nitpicky"]
    folders = ["-c", HERE, "-d", out / "doctrees", out / "pages", out / "html"]
    return sphinx([*options, *map(str, folders)])


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--notebooks", type=pathlib.Path, default=pages.ROOT / "notebooks"
    )
    parser.add_argument("--out", type=pathlib.Path, default=HERE / "_build")
    args = parser.parse_args(argv)
    status = build(args.notebooks.resolve(), args.out.resolve())
    if status == 0:
        print(f"{args.out / 'html' / 'index.html'}")
    return status


if __name__ == "__main__":
    sys.exit(main())
