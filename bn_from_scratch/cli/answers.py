"""`bn check` and `bn grade`: which mistake an exercise's answer makes."""

from argparse import Namespace
from typing import Any

from bn_from_scratch import backends
from bn_from_scratch.cli.common import Commands, say, show, tell
from bn_from_scratch.cli.grammar import add_backend, folder, whole

FRAMEWORKS = ("numpy", *backends.NAMES)
ANSWER_HELP = "a .py or .ipynb file; ::batch_norm checks that function alone"


def add_to(commands: Commands) -> None:
    check = commands.add_parser("check", help="say what is wrong with an answer")
    check.add_argument("answer", metavar="FILE[::NAME]", help=ANSWER_HELP)
    check.add_argument("--json", action="store_true", help="print JSON")
    check.set_defaults(run=run_check)

    grade = commands.add_parser("grade", help="check every answer in a folder")
    answers = "of .py and .ipynb files"
    grade.add_argument("folder", type=folder, metavar="FOLDER", help=answers)
    output = grade.add_mutually_exclusive_group()
    output.add_argument("--json", action="store_true", help="print JSON, no table")
    output.add_argument("--csv", action="store_true", help="print CSV, no table")
    jobs = "answers at the same time"
    grade.add_argument("--jobs", type=whole(1, 1000), default=1, help=jobs)
    grade.set_defaults(run=run_grade)

    for command in (check, grade):
        found = "found out where it is not given"
        add_backend(command, "--framework", choices=FRAMEWORKS, help=found)
        time, memory = "for an answer", "MB for an answer"
        command.add_argument("--seconds", type=whole(1, 10**6), default=120, help=time)
        command.add_argument(
            "--memory", type=whole(1, 10**7), default=2048, help=memory
        )


def run_check(args: Namespace) -> int:
    """JSON: {"name", "framework", "right": tasks, "of": tasks, "error", "findings":
    [{"task", "status", "mistakes", "messages", "differences"}]}."""
    from bn_from_scratch.checker import check

    path, _, name = args.answer.partition("::")
    found = check(path, only=name or None, **limits(args))
    if found is None:  # this answer is being checked already
        return 0
    show(found, args.json)
    return 0 if found.right else 1


def run_grade(args: Namespace) -> int:
    """JSON: a list of what `bn check` has."""
    from bn_from_scratch.checker import grade

    found = grade.grade(args.folder, args.jobs, progress=say, **limits(args))
    text = grade.to_json if args.json else grade.to_csv if args.csv else grade.render
    tell(text(found).removesuffix("\n"))
    return 0


def limits(args: Namespace) -> dict[str, Any]:
    """How an answer is run."""
    return {
        "framework": args.framework,
        "seconds": args.seconds,
        "memory": args.memory,
    }
