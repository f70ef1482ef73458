"""`bn compare`, `bn bench` and `bn variants`: the frameworks held to each other."""

from argparse import Namespace

from bn_from_scratch import backends
from bn_from_scratch.backends.norms import NORMS
from bn_from_scratch.cli.common import (
    NORM_HELP,
    Commands,
    add_out,
    add_training,
    chosen_backends,
    load_data,
    make_folder,
    refuse_existing,
    say,
    say_lost,
    say_written,
    tell,
    tell_json,
    training_settings,
)
from bn_from_scratch.cli.grammar import names_from, whole


def add_to(commands: Commands) -> None:
    compare = commands.add_parser("compare", help="hold the frameworks to each other")
    kinds = compare.add_subparsers(dest="kind", required=True, metavar="KIND")
    layer = kinds.add_parser("layer", help="one layer against the spec, float64")
    layer.set_defaults(run=run_compare_layer)
    precision = kinds.add_parser("precision", help="float32 error at large means")
    add_out(precision, "results", "table and picture")
    precision.set_defaults(run=run_compare_precision)
    training = kinds.add_parser("training", help="a LeNet in every framework")
    add_training(training, epochs=1, samples=12_800)
    add_out(training, "results", "results, picture and report")
    training.set_defaults(run=run_compare_training)
    ports = kinds.add_parser("ports", help="a LeNet of each, evaluated in all")
    add_training(ports, epochs=1, samples=12_800)
    ports.add_argument("--norm", choices=NORMS[:2], default="builtin", help=NORM_HELP)
    add_out(ports, "results/ports", "the networks, each in every format")
    ports.set_defaults(run=run_compare_ports)
    for kind in (layer, precision, training):
        norms = ("scratch", "builtin")
        kind.add_argument(
            "--norms",
            type=names_from(NORMS[:3]),
            default=norms,
            metavar="A,B",
            help=f"of {', '.join(NORMS[:3])}",
        )

    bench = commands.add_parser("bench", help="time ours against the built-in layers")
    bench.add_argument("--rounds", type=whole(1), default=9, help="turns of each layer")
    bench.set_defaults(run=run_bench)
    for command in (layer, precision, training, ports, bench):
        command.add_argument(
            "--backends",
            type=names_from(backends.NAMES),
            metavar="A,B",
            help=f"of {', '.join(backends.NAMES)}; by default all that are installed",
        )

    variants = commands.add_parser("variants", help="which variants combine, and why")
    variants.set_defaults(run=run_variants)
    for command in (layer, precision, training, ports, bench, variants):
        command.add_argument("--json", action="store_true", help="print JSON, no table")


def run_compare_layer(args: Namespace) -> int:
    """JSON: {"rows": [{"backend", "norm", "rank", "mode", and the difference in each of
    "Y", "dX", "dgamma", "dbeta", "moving_mean", "moving_var"}]}."""
    from bn_from_scratch.compare import layer

    rows = layer.compare_layer(chosen_backends(args.backends), args.norms)
    if args.json:
        tell_json({"rows": rows})
    else:
        tell(layer.render(rows))
    return 0 if layer.agree(rows) else 1


def run_compare_precision(args: Namespace) -> int:
    """JSON: {"data", "rows": [{"backend", "norm", "memory", "shape", "mean", "error",
    "bound"}], "gradients": [{"backend", "norm", "shape", "error", "bound"}]}."""
    from bn_from_scratch.compare import figures, precision
    from bn_from_scratch.files import write_atomically
    from bn_from_scratch.presentation.data import to_json

    names = chosen_backends(args.backends)
    paths = [f"{args.out}/precision.json", f"{args.out}/precision.png"]
    make_folder(args.out)
    refuse_existing(paths, args.overwrite)
    rows = precision.compare_precision(names, args.norms, progress=say)
    gradients = precision.compare_gradients(names, args.norms)
    results = {"data": "normal random numbers, std 1", "rows": rows}
    results |= {"gradients": gradients}
    write_atomically(paths[0], to_json(results))
    figures.precision(results, paths[1])
    if args.json:
        tell_json(results)
    else:
        tables = precision.render(rows), "", precision.render_gradients(gradients)
        tell("\n".join(tables))
    say_written(paths)
    return 0 if precision.agree(rows + gradients) else 1


def run_compare_training(args: Namespace) -> int:
    """JSON: what results.json holds: {"data", "dtype", "epochs", "batch_size",
    "accumulate", "lr", "optimizer", "seed", "train_samples", "test_samples", "command",
    "environment": {package: version}, "runs": [{"backend", "norm", "dtype", "data",
    "device", "loss": [of each step], "val_loss", "val_accuracy", "val_losses",
    "val_accuracies", "seconds", "images_per_second", "gamma", "beta", "setting"}],
    "agreement": {"tolerance", "agree", "largest_loss_difference",
    "scratch_loss_difference", "loss_difference", "predictions_unlike_the_first_run"}}.
    """
    from bn_from_scratch.compare import training

    names = chosen_backends(args.backends)
    make_folder(args.out)
    refuse_existing((f"{args.out}/{name}" for name in training.SAVED), args.overwrite)
    data = load_data(args)
    settings = training_settings(args, data, args.norms)
    results = training.compare_training(names, args.norms, data, **settings)
    paths = training.save(results, args.out)
    if args.json:
        tell_json(results)
    else:
        tell(training.render(results))
    say_written(paths)
    say_lost(results["runs"])
    return 0 if results["agreement"]["agree"] else 1


def run_compare_ports(args: Namespace) -> int:
    """JSON: {"data", "norm", "images", "cells": [{"source", "target", "accuracy",
    "differing": predictions, "logits": the largest difference}]}."""
    from bn_from_scratch.port import matrix

    names = chosen_backends(args.backends)
    make_folder(args.out)
    refuse_existing(matrix.paths(args.out, names), args.overwrite)
    data = load_data(args)
    settings = training_settings(args, data, [args.norm])
    del settings["command"], settings["dtype"]
    results = matrix.compare_ports(args.out, data, names, args.norm, **settings)
    if args.json:
        tell_json(results)
    else:
        tell(matrix.render(results))
    return 0 if matrix.agree(results) else 1


def run_bench(args: Namespace) -> int:
    """JSON: {"speed": [{"backend", "shape", and for each of "scratch", "fused",
    "builtin" milliseconds, and "scratch/builtin", "fused/builtin"}], "growth": [the
    same with "times" for the shape], "kept": [{"backend", "shape", and bytes}]}."""
    from bn_from_scratch.compare import bench

    names = chosen_backends(args.backends)
    results = bench.compare_speed(names, rounds=args.rounds, progress=say)
    if args.json:
        tell_json(results)
    else:
        tell(bench.render(results))
    return 0


def run_variants(args: Namespace) -> int:
    """JSON: {"order": [variant], "pairs": [{"variants": [two of them], "combine": bool,
    "reason": why not, or null}]}."""
    from bn_from_scratch.compare import variants

    if args.json:
        tell_json(variants.as_dict())
    else:
        tell(variants.render())
    return 0
