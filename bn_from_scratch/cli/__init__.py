"""The command line: `bn train`, `bn compare`, `bn bench`, ...

Exit status: 0 done, and what was compared agrees; 1 it does not agree, or a training
diverged; 2 it could not be run; 130 interrupted; 141 nobody read the output to its end.
Each module holds a group of commands: its grammar and what it runs. Every command has
`--json`; the docstring of what it runs says what the JSON holds, and what is NaN or
infinite is null in it. Imports wait until a command needs them: --help answers at once.
"""

import argparse
import io
import os
import sys
import warnings
from typing import Any

import bn_from_scratch
from bn_from_scratch.cli import answers, comparisons, models, training
from bn_from_scratch.cli.common import say
from bn_from_scratch.cli.grammar import Parser

GROUPS = training, comparisons, answers, models
CANNOT = 2
TRACEBACK = "BN_TRACEBACK"  # a variable that, when set, shows where a fault of ours is


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    args = parser().parse_args(argv)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # what it cannot show is escaped
            stream.reconfigure(errors="backslashreplace")
    try:
        return _run(args)
    except BrokenPipeError:
        _discard_output()
        say("bn: whoever reads the output stopped before its end")
        return 141
    except (ValueError, TypeError, OSError, ImportError) as error:
        say(f"bn: error: {error}")
        return CANNOT
    except KeyboardInterrupt:
        say("bn: interrupted")
        return 130
    except Exception as error:
        if os.environ.get(TRACEBACK):
            raise
        fault = f"{type(error).__name__}: {error}".removesuffix(": ")
        say(f"bn: error: {fault}; a fault of bn: {TRACEBACK}=1 shows where")
        return CANNOT


def _run(args):
    """The status of the command; what cannot be printed is known before it ends."""
    with warnings.catch_warnings():
        if not sys.warnoptions:  # of NumPy: NaN of a file is told in words of ours
            warnings.simplefilter("ignore", RuntimeWarning)
        status = args.run(args)
    if sys.stdout is not None:
        sys.stdout.flush()
    return status


def _discard_output():
    """Have what is still in the buffer of standard output go nowhere, at exit too."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def parser() -> argparse.ArgumentParser:
    """The grammar of the command line."""
    top = Parser(
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
