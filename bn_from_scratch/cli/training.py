"""`bn train` and `bn data`: a LeNet in one framework, and what it is trained on."""

from argparse import Namespace
from typing import Any

from bn_from_scratch import backends
from bn_from_scratch.backends.norms import NORMS
from bn_from_scratch.cli.common import (
    Commands,
    add_data,
    add_training,
    chosen_backends,
    load_data,
    make_folder,
    say_written,
    training_settings,
)


def add_to(commands: Commands) -> None:
    train = commands.add_parser("train", help="train a LeNet in one framework")
    names = "--backend", "--backends"  # the second as `compare` has it
    train.add_argument(*names, choices=backends.NAMES, help="default: the first")
    train.add_argument("--norm", "--norms", choices=NORMS, default="scratch")
    add_training(train, epochs=10, samples=None)
    train.add_argument(
        "--weights", metavar="FILE", help="start from a .safetensors file"
    )
    micro = "micro-batches of a step; scratch moves its averages once for all"
    train.add_argument("--accumulate", type=int, default=1, metavar="K", help=micro)
    anew = "then take the statistics of the whole training set"
    train.add_argument("--reestimate", action="store_true", help=anew)
    eight = "then fine-tune with gamma, beta and statistics in 8 bits, and fold"
    train.add_argument("--quantize-after", type=int, metavar="EPOCH", help=eight)
    train.add_argument("--out", metavar="FOLDER", help="weights, results and report")
    train.add_argument("--json", action="store_true", help="print JSON")
    train.set_defaults(run=run_train)

    data = commands.add_parser("data", help="find, fetch and verify the data set")
    add_data(data)
    data.add_argument("--json", action="store_true", help="print JSON")
    data.set_defaults(run=run_data)


def run_train(args: Namespace) -> int:
    from bn_from_scratch import training
    from bn_from_scratch.compare import training as comparison

    backend = args.backend or chosen_backends()[0]
    settings = training_settings(args) | {"accumulate": args.accumulate}
    if args.weights:
        settings["weights"] = training.load_weights(args.weights)
    if args.out:
        make_folder(args.out)
        settings["checkpoint"] = f"{args.out}/weights.safetensors"
    if args.reestimate or args.quantize_after is not None:
        return run_phases(args, backend, settings)
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


def run_phases(args: Namespace, backend: str, settings: dict[str, Any]) -> int:
    import dataclasses
    import json

    from bn_from_scratch import phases
    from bn_from_scratch.files import write_atomically

    command = settings.pop("command")
    chosen = {"reestimate": args.reestimate, "quantize_after": args.quantize_after}
    data = load_data(args)
    found, trainer = phases.train_in_phases(
        backend, args.norm, data, **settings, **chosen
    )
    results = {"command": command, "data": data.name}
    results["phases"] = [dataclasses.asdict(phase) for phase in found]
    results = json.dumps(results, indent=1) + "\n"
    print(results if args.json else phases.render(found), end="" if args.json else "\n")
    if args.out:
        write_atomically(f"{args.out}/phases.json", results)
        trainer.save_weights(settings["checkpoint"])
        say_written([settings["checkpoint"], f"{args.out}/phases.json"])
    return 0


def run_data(args: Namespace) -> int:
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
