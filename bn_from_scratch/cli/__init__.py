"""The command line: `bn train`, `bn compare`, `bn bench`, ...

Exit status: 0 done, and what was compared agrees; 1 it does not agree; 2 it could not
be run; 130 interrupted.  Each module holds a group of commands: its grammar
and what it runs.  Imports wait until a command needs them: --help answers at once.
"""

import argparse
import sys
from typing import Any

import bn_from_scratch
from bn_from_scratch.cli import answers, comparisons, models, training

GROUPS = training, comparisons, answers, models


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    args = parser().parse_args(argv)
    try:
        return args.run(args)
    except (ValueError, TypeError, OSError, ImportError) as error:
        print(f"bn: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("bn: interrupted", file=sys.stderr)
        return 130


def parser() -> argparse.ArgumentParser:
    """The grammar of the command line."""
    top = argparse.ArgumentParser(
        prog="bn", description="Batch normalization from scratch, in four frameworks."
    )
    top.add_argument("--version", action=_Version, help="print the version and exit")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for group in GROUPS:
        group.add_to(commands)
    return top


class _Version(argparse.Action):
    """Prints the version, which is looked up no sooner."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, nargs=0, **options)

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        print(f"bn_from_scratch {bn_from_scratch.__version__}")
        parser.exit()
