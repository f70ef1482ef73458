"""`bn check` and `bn grade`: which mistake an exercise's answer makes."""

from argparse import Namespace
from typing import Any

from bn_from_scratch import backends
from bn_from_scratch.cli.common import Commands, say, show

FRAMEWORKS = ("numpy", *backends.NAMES)
ANSWER_HELP = "a .py or .ipynb file; ::batch_norm checks that function alone"


def add_to(commands: Commands) -> None:
    check = commands.add_parser("check", help="say what is wrong with an answer")
    check.add_argument("answer", metavar="FILE[::NAME]", help=ANSWER_HELP)
    check.add_argument("--json", action="store_true", help="print JSON")
    check.set_defaults(run=run_check)

    grade = commands.add_parser("grade", help="check every answer in a folder")
    grade.add_argument("folder", metavar="FOLDER")
    output = grade.add_mutually_exclusive_group()
    output.add_argument("--json", action="store_true", help="print JSON, no table")
    output.add_argument("--csv", action="store_true", help="print CSV, no table")
    grade.add_argument("--jobs", type=int, default=1, help="answers at the same time")
    grade.set_defaults(run=run_grade)

    for command in (check, grade):
        command.add_argument("--framework", choices=FRAMEWORKS, help="else found out")
        command.add_argument("--seconds", type=int, default=120, help="for an answer")
        command.add_argument("--memory", type=int, default=2048, help="MB, likewise")


def run_check(args: Namespace) -> int:
    from bn_from_scratch.checker import check

    path, _, name = args.answer.partition("::")
    found = check(path, only=name or None, **limits(args))
    if found is None:  # this answer is being checked already
        return 0
    show(found, args.json)
    return 0 if found.right else 1


def run_grade(args: Namespace) -> int:
    from bn_from_scratch.checker import grade

    found = grade.grade(args.folder, args.jobs, progress=say, **limits(args))
    text = grade.to_json if args.json else grade.to_csv if args.csv else grade.render
    print(text(found), end="" if args.csv else "\n")
    return 0


def limits(args: Namespace) -> dict[str, Any]:
    """How an answer is run."""
    if args.seconds < 1 or args.memory < 1:
        raise ValueError("seconds and memory must be at least 1")
    return {
        "framework": args.framework,
        "seconds": args.seconds,
        "memory": args.memory,
    }
