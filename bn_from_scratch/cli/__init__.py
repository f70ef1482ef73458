"""The command line: `bn train`, `bn compare`, `bn bench`, ...

Exit status: 0 done, and what was compared agrees; 1 it does not agree; 2 it could not
be run; 130 interrupted.  Each module holds a group of commands: its grammar
and what it runs.  Imports wait until a command needs them: --help answers at once.
"""

import argparse
import sys

from bn_from_scratch.cli import answers, comparisons, models, training

GROUPS = training, comparisons, answers, models


def main(argv=None):
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


def parser():
    """The grammar of the command line."""
    top = argparse.ArgumentParser(
        prog="bn", description="Batch normalization from scratch, in four frameworks."
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for group in GROUPS:
        group.add_to(commands)
    return top
