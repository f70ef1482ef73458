"""`bn port`, `bn diagnose` and `bn health`: the batch norms of whole models."""

import argparse
from argparse import Namespace

from bn_from_scratch import backends
from bn_from_scratch.cli.common import Commands, say, say_written, show

STATED = "from_", "eps", "momentum", "absent"  # what a file may not say of itself


def add_to(commands: Commands) -> None:
    port = commands.add_parser("port", help="carry batch norms to another framework")
    port.add_argument("source", metavar="SOURCE", help="a file of any framework")
    port.add_argument("--to", choices=backends.NAMES, required=True)
    port.add_argument("--out", metavar="FILE", help="its suffix chooses the format")
    n = "per channel in training: translates the stored variance"
    port.add_argument("--values", type=int, metavar="N", help=n)
    strict = "write nothing, and exit with 1, where eps or momentum is assumed"
    port.add_argument("--strict", action="store_true", help=strict)
    port.add_argument("--overwrite", action="store_true")
    port.set_defaults(run=run_port)

    diagnose = commands.add_parser("diagnose", help="say why two batch norms differ")
    diagnose.add_argument("a", metavar="A", help="a record: .safetensors or .npz")
    diagnose.add_argument("b", metavar="B")
    diagnose.set_defaults(run=run_diagnose)

    health = commands.add_parser("health", help="examine the batch norms of a model")
    health.add_argument("model", metavar="MODEL", help="a file of any framework")
    health.add_argument("--page", metavar="FILE", help="write a page with pictures")
    strict = "exit with 1 where eps is not known"
    health.add_argument("--strict", action="store_true", help=strict)
    health.set_defaults(run=run_health)

    for command in (port, health):
        add_stated(command)
    for command in (port, diagnose, health):
        command.add_argument("--json", action="store_true", help="print JSON")


def add_stated(command: argparse.ArgumentParser) -> None:
    """What a file may not say of itself."""
    framework = "of the names in the file, if unclear"
    command.add_argument("--from", dest="from_", choices=backends.NAMES, help=framework)
    command.add_argument("--eps", type=float, help="if the file does not say it")
    weight = "of the new batch, if the file does not say it"
    command.add_argument("--momentum", type=float, help=weight)
    lacks = "what layers with one vector in a .weights.h5 lack"
    command.add_argument("--absent", choices=("gamma", "beta"), help=lacks)


def run_port(args: Namespace) -> int:
    from bn_from_scratch.port import port

    names = *STATED, "values", "overwrite", "strict"
    options = {name: getattr(args, name) for name in names}
    report = port(args.source, args.to, args.out, **options)
    show(report, args.json)
    if report.written is None:
        assumed = " and ".join(f"--{a.name}" for a in report.assumed)
        say(f"nothing was written: state {assumed}, or leave --strict out")
        return 1
    return 0


def run_diagnose(args: Namespace) -> int:
    from bn_from_scratch.diagnosis import diagnose

    found = diagnose(args.a, args.b, names=(args.a, args.b))
    show(found, args.json)
    return 0 if found.equal else 1


def run_health(args: Namespace) -> int:
    from bn_from_scratch.health import health, page

    found = health(args.model, **{name: getattr(args, name) for name in STATED})
    show(found, args.json)
    if args.page:
        page.html(found, args.page)
        say_written([args.page])
    return 0 if found.well and not (args.strict and found.notes) else 1
