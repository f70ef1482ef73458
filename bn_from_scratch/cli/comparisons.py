"""`bn compare`, `bn bench` and `bn variants`: the frameworks held to each other."""

from argparse import Namespace

from bn_from_scratch import backends
from bn_from_scratch.backends.norms import NORMS
from bn_from_scratch.cli.common import (
    Commands,
    add_training,
    chosen_backends,
    load_data,
    make_folder,
    names_from,
    say,
    say_written,
    training_settings,
)


def add_to(commands: Commands) -> None:
    compare = commands.add_parser("compare", help="hold the frameworks to each other")
    kinds = compare.add_subparsers(dest="kind", required=True, metavar="KIND")
    layer = kinds.add_parser("layer", help="one layer against the spec, float64")
    layer.set_defaults(run=run_compare_layer)
    precision = kinds.add_parser("precision", help="float32 error at large means")
    precision.add_argument("--out", metavar="FOLDER", default="results")
    precision.set_defaults(run=run_compare_precision)
    training = kinds.add_parser("training", help="a LeNet in every framework")
    add_training(training, epochs=1, samples=12_800)
    training.add_argument("--out", metavar="FOLDER", default="results")
    training.set_defaults(run=run_compare_training)
    ports = kinds.add_parser("ports", help="a LeNet of each, evaluated in all")
    add_training(ports, epochs=1, samples=12_800)
    ports.add_argument("--norm", choices=NORMS[:2], default="builtin")
    ports.add_argument("--out", metavar="FOLDER", default="results/ports")
    ports.add_argument("--backends", type=names_from(backends.NAMES), metavar="A,B")
    ports.add_argument("--json", action="store_true", help="print JSON, no tables")
    ports.set_defaults(run=run_compare_ports)
    for kind in (layer, precision, training):
        kind.add_argument("--backends", type=names_from(backends.NAMES), metavar="A,B")
        norms = ("scratch", "builtin")
        kind.add_argument(
            "--norms", type=names_from(NORMS[:3]), default=norms, metavar="A,B"
        )
        kind.add_argument("--json", action="store_true", help="print JSON, no table")

    bench = commands.add_parser("bench", help="time ours against the built-in layers")
    bench.add_argument("--backends", type=names_from(backends.NAMES), metavar="A,B")
    bench.add_argument("--rounds", type=int, default=9, help="turns of each layer")
    bench.add_argument("--json", action="store_true", help="print JSON, no tables")
    bench.set_defaults(run=run_bench)

    variants = commands.add_parser("variants", help="which variants combine, and why")
    variants.set_defaults(run=run_variants)


def run_compare_layer(args: Namespace) -> int:
    import json

    from bn_from_scratch.compare import layer

    rows = layer.compare_layer(chosen_backends(args.backends), args.norms)
    print(json.dumps({"rows": rows}, indent=1) if args.json else layer.render(rows))
    return 0 if layer.agree(rows) else 1


def run_compare_precision(args: Namespace) -> int:
    from bn_from_scratch.compare import figures, precision
    from bn_from_scratch.compare.training import to_json
    from bn_from_scratch.files import write_atomically

    names = chosen_backends(args.backends)
    make_folder(args.out)
    rows = precision.compare_precision(names, args.norms, progress=say)
    gradients = precision.compare_gradients(names, args.norms)
    results = {"data": "normal random numbers, std 1", "rows": rows}
    results |= {"gradients": gradients}
    tables = precision.render(rows), "", precision.render_gradients(gradients)
    print(to_json(results) if args.json else "\n".join(tables))
    paths = [f"{args.out}/precision.json", f"{args.out}/precision.png"]
    write_atomically(paths[0], to_json(results))
    figures.precision(results, paths[1])
    say_written(paths)
    return 0 if precision.agree(rows + gradients) else 1


def run_compare_training(args: Namespace) -> int:
    from bn_from_scratch.compare import training

    names, settings = chosen_backends(args.backends), training_settings(args)
    make_folder(args.out)
    data = load_data(args)
    results = training.compare_training(names, args.norms, data, **settings)
    print(training.to_json(results) if args.json else training.render(results))
    say_written(training.save(results, args.out))
    return 0 if results["agreement"]["agree"] else 1


def run_compare_ports(args: Namespace) -> int:
    import json

    from bn_from_scratch.port import matrix

    names, settings = chosen_backends(args.backends), training_settings(args)
    del settings["command"], settings["dtype"]
    data = load_data(args)
    results = matrix.compare_ports(args.out, data, names, args.norm, **settings)
    print(json.dumps(results, indent=1) if args.json else matrix.render(results))
    return 0 if matrix.agree(results) else 1


def run_bench(args: Namespace) -> int:
    import json

    from bn_from_scratch.compare import bench

    if args.rounds < 1:
        raise ValueError(f"rounds must be at least 1; got {args.rounds}")
    names = chosen_backends(args.backends)
    results = bench.compare_speed(names, rounds=args.rounds, progress=say)
    print(json.dumps(results, indent=1) if args.json else bench.render(results))
    return 0


def run_variants(args: Namespace) -> int:
    from bn_from_scratch.compare import variants

    print(variants.render())
    return 0
