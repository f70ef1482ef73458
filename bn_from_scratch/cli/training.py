"""`bn train` and `bn data`: a LeNet in one framework, and what it is trained on."""

import math
from argparse import Namespace
from typing import Any

from bn_from_scratch import backends
from bn_from_scratch.backends.norms import NORMS
from bn_from_scratch.cli.common import (
    NORM_HELP,
    Commands,
    add_data,
    add_out,
    add_training,
    chosen_backends,
    load_data,
    make_folder,
    refuse_existing,
    say,
    say_diverged,
    say_lost,
    say_written,
    tell,
    tell_json,
    training_settings,
)
from bn_from_scratch.cli.grammar import add_backend, file, whole

WEIGHTS, PHASES = "weights.safetensors", "phases.json"


def add_to(commands: Commands) -> None:
    train = commands.add_parser("train", help="train a LeNet in one framework")
    names = "--backend", "--backends"  # the second as `compare` has it
    first = "by default the first that is installed"
    add_backend(train, *names, choices=backends.NAMES, help=first)
    train.add_argument(
        "--norm", "--norms", choices=NORMS, default="scratch", help=NORM_HELP
    )
    add_training(train, epochs=10, samples=None)
    start = "start from a .safetensors file"
    train.add_argument("--weights", type=file, metavar="FILE", help=start)
    micro = "micro-batches of a step; scratch moves its averages once for all"
    train.add_argument(
        "--accumulate", type=whole(1), default=1, metavar="K", help=micro
    )
    anew = "then take the statistics of the whole training set"
    train.add_argument("--reestimate", action="store_true", help=anew)
    eight = "then fine-tune with gamma, beta and statistics in 8 bits, and fold"
    train.add_argument("--quantize-after", type=whole(1), metavar="EPOCH", help=eight)
    add_out(train, None, "weights, results and report; else no weights are kept")
    train.add_argument("--json", action="store_true", help="print JSON")
    train.set_defaults(run=run_train)

    data = commands.add_parser("data", help="find, fetch and verify the data set")
    add_data(data)
    data.add_argument("--json", action="store_true", help="print JSON")
    data.set_defaults(run=run_data)


def run_train(args: Namespace) -> int:
    """JSON: as `bn compare training` has it, with one run; in phases {"command",
    "data", "phases": [{"phase", "val_accuracy", "val_loss"}]}."""
    from bn_from_scratch import training
    from bn_from_scratch.compare import training as comparison

    in_phases = args.reestimate or args.quantize_after is not None
    if in_phases and (args.quantize_after or 0) >= args.epochs:
        raise ValueError(
            f"--quantize-after must be below --epochs {args.epochs}; "
            f"got {args.quantize_after}"
        )
    backend = args.backend or chosen_backends()[0]
    weights = training.load_weights(args.weights) if args.weights else None
    if args.out:
        make_folder(args.out)
        written = [WEIGHTS, *([PHASES] if in_phases else comparison.SAVED)]
        refuse_existing((f"{args.out}/{name}" for name in written), args.overwrite)
    data = load_data(args)
    settings = training_settings(args, data, [args.norm])
    settings |= {"accumulate": args.accumulate, "weights": weights}
    if args.out:
        settings["checkpoint"] = f"{args.out}/{WEIGHTS}"
    else:
        say("the weights of this training are not kept: --out FOLDER keeps them")
    if in_phases:
        return run_phases(args, backend, data, settings)
    results = comparison.compare_training([backend], [args.norm], data, **settings)
    run = results["runs"][0]
    if args.out:
        say_written([settings["checkpoint"], *comparison.save(results, args.out)])
    if args.json:
        tell_json(results)
    else:
        tell(
            f"{backend} {args.norm}, {results['data']}: "
            f"validation accuracy {run['val_accuracy']:.4f}, "
            f"loss {run['val_loss']:.4f}, {run['images_per_second']:,.0f} images/s"
        )
    return 1 if say_lost([run]) else 0


def run_phases(
    args: Namespace, backend: str, data: Any, settings: dict[str, Any]
) -> int:
    import dataclasses

    from bn_from_scratch import phases
    from bn_from_scratch.files import write_atomically
    from bn_from_scratch.presentation.data import to_json

    command = settings.pop("command")
    chosen = {"reestimate": args.reestimate, "quantize_after": args.quantize_after}
    found, trainer = phases.train_in_phases(
        backend, args.norm, data, **settings, **chosen
    )
    results = {"command": command, "data": data.name}
    results["phases"] = [dataclasses.asdict(phase) for phase in found]
    if args.out:
        write_atomically(f"{args.out}/{PHASES}", to_json(results))
        trainer.save_weights(settings["checkpoint"])
        say_written([settings["checkpoint"], f"{args.out}/{PHASES}"])
    if args.json:
        tell_json(results)
    else:
        tell(phases.render(found))
    lost = [phase for phase in found if not math.isfinite(phase.val_loss)]
    if lost:
        name = f"{backend} {args.norm}"
        say_diverged(name, f"the loss is {lost[0].val_loss} after {lost[0].phase!r}")
    return 1 if lost else 0


def run_data(args: Namespace) -> int:
    """JSON: {"data", "train_images": [N, 28, 28], "test_images": [N, 28, 28]}."""
    data = load_data(args)
    if args.json:
        tell_json(
            {
                "data": data.name,
                "train_images": data.train_images.shape,
                "test_images": data.test_images.shape,
            }
        )
    else:
        train, test = len(data.train_labels), len(data.test_labels)
        tell(f"{data.name}: {train:,} training and {test:,} test images, verified")
    return 0
