"""The command line: `bn train`, `bn compare`, `bn bench`, ...

Exit status: 0 done, and what was compared agrees; 1 it does not agree; 2 it could not
be run; 130 interrupted.  Imports wait until a command needs them, so that --help
answers at once.
"""

import argparse
import sys

from bn_from_scratch import backends
from bn_from_scratch.compare import NORMS

FRAMEWORKS = ("numpy", *backends.NAMES)
ANSWER_HELP = "a .py or .ipynb file; ::batch_norm checks that function alone"
DATA_HELP = "auto takes Fashion-MNIST, and drawn garments where it cannot be had"


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

    train = commands.add_parser("train", help="train a LeNet in one framework")
    names = "--backend", "--backends"  # the second as `compare` has it
    train.add_argument(*names, choices=backends.NAMES, help="default: the first")
    train.add_argument("--norm", "--norms", choices=NORMS, default="scratch")
    _add_training(train, epochs=10, samples=None)
    train.add_argument(
        "--weights", metavar="FILE", help="start from a .safetensors file"
    )
    micro = "micro-batches of a step; scratch moves its averages once for all"
    train.add_argument("--accumulate", type=int, default=1, metavar="K", help=micro)
    train.add_argument("--out", metavar="FOLDER", help="weights, results and report")
    train.add_argument("--json", action="store_true", help="print JSON")
    train.set_defaults(run=run_train)

    compare = commands.add_parser("compare", help="hold the frameworks to each other")
    kinds = compare.add_subparsers(dest="kind", required=True, metavar="KIND")
    layer = kinds.add_parser("layer", help="one layer against the spec, float64")
    layer.set_defaults(run=run_compare_layer)
    precision = kinds.add_parser("precision", help="float32 error at large means")
    precision.add_argument("--out", metavar="FOLDER", default="results")
    precision.set_defaults(run=run_compare_precision)
    training = kinds.add_parser("training", help="a LeNet in every framework")
    _add_training(training, epochs=1, samples=12_800)
    training.add_argument("--out", metavar="FOLDER", default="results")
    training.set_defaults(run=run_compare_training)
    for kind in (layer, precision, training):
        kind.add_argument("--backends", type=_names(backends.NAMES), metavar="A,B")
        norms = ("scratch", "builtin")
        kind.add_argument(
            "--norms", type=_names(NORMS[:3]), default=norms, metavar="A,B"
        )
        kind.add_argument("--json", action="store_true", help="print JSON, no table")

    bench = commands.add_parser("bench", help="time ours against the built-in layers")
    bench.add_argument("--backends", type=_names(backends.NAMES), metavar="A,B")
    bench.add_argument("--rounds", type=int, default=9, help="turns of each layer")
    bench.add_argument("--json", action="store_true", help="print JSON, no tables")
    bench.set_defaults(run=run_bench)

    variants = commands.add_parser("variants", help="which variants combine, and why")
    variants.set_defaults(run=run_variants)

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

    data = commands.add_parser("data", help="find, fetch and verify the data set")
    _add_data(data)
    data.add_argument("--json", action="store_true", help="print JSON")
    data.set_defaults(run=run_data)
    return top


def _add_training(command, epochs, samples):
    command.add_argument("--epochs", type=int, default=epochs)
    command.add_argument("--samples", type=int, default=samples, help="training images")
    command.add_argument("--batch-size", type=int, default=128)
    command.add_argument("--lr", type=float, default=0.1)
    command.add_argument("--optimizer", choices=("sgd", "adam"), default="sgd")
    command.add_argument("--dtype", choices=("float32", "float64"), default="float32")
    command.add_argument("--seed", type=int, default=0)
    command.add_argument(
        "--compile",
        action=argparse.BooleanOptionalAction,
        help="compile the steps; by default all but PyTorch do",
    )
    command.add_argument("--device", choices=("auto", "cpu", "gpu"), default="auto")
    _add_data(command)


def _add_data(command):
    sources = ("auto", "fashion-mnist", "garments")
    command.add_argument("--data", choices=sources, default="auto", help=DATA_HELP)
    command.add_argument("--data-dir", metavar="FOLDER", help="where the files are")


def _names(known):
    """An argument type: names from `known`, separated by commas."""

    def parse(text):
        names = tuple(text.split(","))
        for name in names:
            if name not in known:
                message = f"{name!r} is not one of {', '.join(known)}"
                raise argparse.ArgumentTypeError(message)
        return names

    return parse


def run_train(args):
    from bn_from_scratch import training
    from bn_from_scratch.compare import training as comparison

    backend = args.backend or chosen_backends()[0]
    settings = training_settings(args) | {"accumulate": args.accumulate}
    if args.weights:
        settings["weights"] = training.load_weights(args.weights)
    if args.out:
        make_folder(args.out)
        settings["checkpoint"] = f"{args.out}/weights.safetensors"
    results = comparison.compare_training(
        [backend], [args.norm], load_data(args), **settings
    )
    run = results["runs"][0]
    if args.json:
        print(comparison.to_json(results), end="")
    else:
        print(
            f"{backend} {args.norm}, {results['data']}: "
            f"validation accuracy {run['val_accuracy']:.4f}, "
            f"loss {run['val_loss']:.4f}, {run['images_per_second']:,.0f} images/s"
        )
    if args.out:
        say_written([settings["checkpoint"], *comparison.save(results, args.out)])
    return 0


def run_compare_layer(args):
    import json

    from bn_from_scratch.compare import layer

    rows = layer.compare_layer(chosen_backends(args.backends), args.norms)
    print(json.dumps({"rows": rows}, indent=1) if args.json else layer.render(rows))
    return 0 if layer.agree(rows) else 1


def run_compare_precision(args):
    from bn_from_scratch.compare import figures, precision
    from bn_from_scratch.compare.training import to_json
    from bn_from_scratch.files import write_atomically

    names = chosen_backends(args.backends)
    make_folder(args.out)
    rows = precision.compare_precision(names, args.norms, progress=say)
    results = {"data": "normal random numbers, std 1", "rows": rows}
    print(to_json(results) if args.json else precision.render(rows))
    paths = [f"{args.out}/precision.json", f"{args.out}/precision.png"]
    write_atomically(paths[0], to_json(results))
    figures.precision(results, paths[1])
    say_written(paths)
    return 0 if precision.agree(rows) else 1


def run_compare_training(args):
    from bn_from_scratch.compare import training

    names, settings = chosen_backends(args.backends), training_settings(args)
    make_folder(args.out)
    data = load_data(args)
    results = training.compare_training(names, args.norms, data, **settings)
    print(training.to_json(results) if args.json else training.render(results))
    say_written(training.save(results, args.out))
    return 0 if results["agreement"]["agree"] else 1


def run_bench(args):
    import json

    from bn_from_scratch.compare import bench

    if args.rounds < 1:
        raise ValueError(f"rounds must be at least 1; got {args.rounds}")
    names = chosen_backends(args.backends)
    results = bench.compare_speed(names, args.rounds, progress=say)
    print(json.dumps(results, indent=1) if args.json else bench.render(results))
    return 0


def run_variants(args):
    from bn_from_scratch import combinations

    print(combinations.render())
    return 0


def run_check(args):
    import json

    from bn_from_scratch.checker import check

    path, _, name = args.answer.partition("::")
    found = check(path, only=name or None, **limits(args))
    print(json.dumps(found.as_dict(), indent=1) if args.json else found)
    return 0 if found.right else 1


def run_grade(args):
    from bn_from_scratch.checker import grade

    found = grade.grade(args.folder, args.jobs, progress=say, **limits(args))
    show = grade.to_json if args.json else grade.to_csv if args.csv else grade.render
    print(show(found), end="" if args.csv else "\n")
    return 0


def limits(args):
    """How an answer is run."""
    if args.seconds < 1 or args.memory < 1:
        raise ValueError("seconds and memory must be at least 1")
    return {
        "framework": args.framework,
        "seconds": args.seconds,
        "memory": args.memory,
    }


def run_data(args):
    import json

    data = load_data(args)
    facts = {
        "data": data.name,
        "train_images": data.train_images.shape,
        "test_images": data.test_images.shape,
    }
    if args.json:
        print(json.dumps(facts))
    else:
        train, test = len(data.train_labels), len(data.test_labels)
        print(f"{data.name}: {train:,} training and {test:,} test images, verified")
    return 0


def chosen_backends(names=None):
    """The backends to run: those that were named, else all that are installed."""
    if names:
        return names
    found = backends.installed()
    for name in backends.NAMES:
        if name not in found:
            say(f"{name} is not installed: pip install 'bn-from-scratch[{name}]'")
    if not found:
        raise ImportError(
            "no framework is installed: pip install 'bn-from-scratch[all]'"
        )
    return found


def training_settings(args):
    """What the options of a training command say to `compare_training`."""
    return {
        "max_epochs": args.epochs,
        "batch_size": args.batch_size,
        "lr": args.lr,
        "optimizer": args.optimizer,
        "dtype": args.dtype,
        "seed": args.seed,
        "device": args.device,
        "compile": args.compile,
        "command": " ".join(["bn", *sys.argv[1:]]),
    }


def load_data(args):
    from bn_from_scratch import data

    return data.load(args.data, args.data_dir).take(getattr(args, "samples", None))


def make_folder(path):
    """Before the work begins: a folder that cannot be is known at once."""
    import pathlib

    pathlib.Path(path).mkdir(parents=True, exist_ok=True)


def say(text):
    print(text, file=sys.stderr, flush=True)


def say_written(paths):
    say("written: " + ", ".join(map(str, paths)))
