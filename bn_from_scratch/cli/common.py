"""What several commands share: options of a training, data, words to the user."""

import argparse
import sys
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from bn_from_scratch import backends

if TYPE_CHECKING:
    from bn_from_scratch.data import Dataset

Commands = Any  # what `add_subparsers` returns: argparse does not export its class
DATA_HELP = "auto takes Fashion-MNIST, and drawn garments where it cannot be had"


def add_training(
    command: argparse.ArgumentParser, epochs: int, samples: int | None
) -> None:
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
    add_data(command)


def add_data(command: argparse.ArgumentParser) -> None:
    sources = ("auto", "fashion-mnist", "garments")
    command.add_argument("--data", choices=sources, default="auto", help=DATA_HELP)
    command.add_argument("--data-dir", metavar="FOLDER", help="where the files are")


def names_from(known: Collection[str]) -> Callable[[str], tuple[str, ...]]:
    """An argument type: names from `known`, separated by commas."""

    def parse(text: str) -> tuple[str, ...]:
        names = tuple(text.split(","))
        for name in names:
            if name not in known:
                message = f"{name!r} is not one of {', '.join(known)}"
                raise argparse.ArgumentTypeError(message)
        return names

    return parse


def chosen_backends(names: Sequence[str] | None = None) -> Sequence[str]:
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


def training_settings(args: argparse.Namespace) -> dict[str, Any]:
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


def load_data(args: argparse.Namespace) -> "Dataset":
    from bn_from_scratch import data

    return data.load(args.data, args.data_dir).take(getattr(args, "samples", None))


def make_folder(path: str) -> None:
    """Before the work begins: a folder that cannot be is known at once."""
    import pathlib

    pathlib.Path(path).mkdir(parents=True, exist_ok=True)


def show(found: Any, as_json: bool) -> None:
    """Print what was found, as text or as data."""
    import json

    print(json.dumps(found.as_dict(), indent=1) if as_json else found)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def say_written(paths: Iterable[Any]) -> None:
    say("written: " + ", ".join(map(str, paths)))
