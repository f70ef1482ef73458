"""`bn port`, `bn diagnose` and `bn health`: the batch norms of whole models."""

import argparse
import os
from argparse import Namespace

from bn_from_scratch import backends
from bn_from_scratch.cli.common import (
    OVERWRITE_HELP,
    Commands,
    refuse_existing,
    say,
    say_written,
    show,
)
from bn_from_scratch.cli.grammar import add_backend, file, finite, whole

STATED = "from_", "eps", "momentum", "absent"  # what a file may not say of itself


def add_to(commands: Commands) -> None:
    port = commands.add_parser("port", help="carry batch norms to another framework")
    what = "a file of any framework"
    port.add_argument("source", type=file, metavar="SOURCE", help=what)
    add_backend(port, "--to", choices=backends.NAMES, required=True, help="its target")
    suffix = "its suffix chooses the format; by default it is written beside SOURCE"
    port.add_argument("--out", type=file, metavar="FILE", help=suffix)
    n = "per channel in training: translates the stored variance"
    port.add_argument("--values", type=whole(2), metavar="N", help=n)
    strict = "write nothing, and exit with 1, where eps or momentum is assumed"
    port.add_argument("--strict", action="store_true", help=strict)
    port.add_argument("--overwrite", action="store_true", help=OVERWRITE_HELP)
    port.set_defaults(run=run_port)

    diagnose = commands.add_parser("diagnose", help="say why two batch norms differ")
    record = "a record: .safetensors or .npz"
    diagnose.add_argument("a", type=file, metavar="A", help=record)
    diagnose.add_argument("b", type=file, metavar="B", help="another")
    diagnose.set_defaults(run=run_diagnose)

    health = commands.add_parser("health", help="examine the batch norms of a model")
    health.add_argument("model", type=file, metavar="MODEL", help=what)
    page = "write a page with pictures"
    health.add_argument("--page", type=file, metavar="FILE", help=page)
    health.add_argument("--overwrite", action="store_true", help=OVERWRITE_HELP)
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
    add_backend(command, "--from", dest="from_", choices=backends.NAMES, help=framework)
    command.add_argument(
        "--eps", type=finite(0, above=True), help="if the file does not say it"
    )
    weight = "of the new batch, if the file does not say it"
    command.add_argument("--momentum", type=finite(0, 1), help=weight)
    lacks = "what layers with one vector in a .weights.h5 lack"
    command.add_argument("--absent", choices=("gamma", "beta"), help=lacks)


def run_port(args: Namespace) -> int:
    """JSON: {"source", "from", "to", "kind", "written", "largest", "rows": [{"layer",
    "channels", "dtype", and a difference for each of "prediction", "training",
    "gradients", "statistics"}], "assumed": [what the file does not say], "notes",
    "left"}; "written" is null where --strict wrote nothing."""
    from bn_from_scratch.port import port

    names = *STATED, "values", "overwrite", "strict"
    options = {name: getattr(args, name) for name in names}
    try:
        report = port(args.source, args.to, args.out, **options)
    except FileExistsError as error:
        hint = ": --overwrite" * str(error).endswith("only on request")
        raise FileExistsError(f"{error}{hint}") from None
    show(report, args.json)
    if report.written is None:
        assumed = " and ".join(f"--{a.name}" for a in report.assumed)
        say(f"nothing was written: state {assumed}, or leave --strict out")
        return 1
    return 0


def run_diagnose(args: Namespace) -> int:
    """JSON: {"layer", "equal", "causes": [{"cause", "side", "evidence", "hint",
    "alternatives"}], "differences": {output: relative}, "unexplained", "notes"}; of
    records of several layers {"equal", "layers": [such], "notes"}."""
    from bn_from_scratch.diagnosis import diagnose

    found = diagnose(args.a, args.b, names=(args.a, args.b))
    show(found, args.json)
    return 0 if found.equal else 1


def run_health(args: Namespace) -> int:
    """JSON: {"model", "well", "notes", "layers": [{"layer", "kind",
    "values_per_channel", "gap", "output_gap", "symptoms": [{"symptom", "evidence",
    "advice"}]}]}."""
    from bn_from_scratch.health import health, page

    if args.page:
        refuse_existing([args.page], args.overwrite)
        if os.path.exists(args.page) and os.path.samefile(args.page, args.model):
            raise ValueError(f"--page {args.page} would replace the model itself")
    found = health(args.model, **{name: getattr(args, name) for name in STATED})
    if args.page:
        page.html(found, args.page)
        say_written([args.page])
    show(found, args.json)
    return 0 if found.well and not (args.strict and found.notes) else 1
