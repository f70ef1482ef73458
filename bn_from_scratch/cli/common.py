"""What several commands share: options of a training, data, words to the user."""

import argparse
import os
import pathlib
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from bn_from_scratch import backends
from bn_from_scratch.cli.grammar import finite, folder, whole
from bn_from_scratch.text import visible

if TYPE_CHECKING:
    from bn_from_scratch.data import Dataset

Commands = Any  # what `add_subparsers` returns: argparse does not export its class
DATA_HELP = "auto takes Fashion-MNIST, and drawn garments where it cannot be had"
NORM_HELP = "the layer: ours, the framework's own, ours fused, or none"
OVERWRITE_HELP = "replace files that are there"


def add_training(
    command: argparse.ArgumentParser, epochs: int, samples: int | None
) -> None:
    add = command.add_argument
    add("--epochs", type=whole(1), default=epochs, help="passes over the training set")
    many = "training images" + "; all, where it is not given" * (samples is None)
    add("--samples", type=whole(1), default=samples, help=many)
    add("--batch-size", type=whole(1), default=128, help="images of a step")
    add("--lr", type=finite(0), default=0.1, help="learning rate")
    add("--optimizer", choices=("sgd", "adam"), default="sgd", help="of the training")
    dtypes = ("float32", "float64")
    add("--dtype", choices=dtypes, default="float32", help="of all numbers")
    add("--seed", type=whole(0), default=0, help="of the weights and the batches")
    add(
        "--compile",
        action=argparse.BooleanOptionalAction,
        help="compile the steps; by default all but PyTorch do",
    )
    devices = ("auto", "cpu", "gpu")
    add("--device", choices=devices, default="auto", help="auto takes a GPU if any")
    add_data(command)


def add_data(command: argparse.ArgumentParser) -> None:
    sources = ("auto", "fashion-mnist", "garments")
    command.add_argument("--data", choices=sources, default="auto", help=DATA_HELP)
    where = "where the files are"
    command.add_argument("--data-dir", type=folder, metavar="FOLDER", help=where)


def add_out(command: argparse.ArgumentParser, default: str | None, what: str) -> None:
    """Add the folder of the results, and the leave to replace those of another run."""
    command.add_argument(
        "--out", type=folder, metavar="FOLDER", default=default, help=what
    )
    command.add_argument("--overwrite", action="store_true", help=OVERWRITE_HELP)


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


def training_settings(
    args: argparse.Namespace, data: "Dataset", norms: Sequence[str]
) -> dict[str, Any]:
    """What the options of a training command say to `compare_training`."""
    return {
        "max_epochs": args.epochs,
        "batch_size": batch_size(args, len(data.train_labels), norms),
        "lr": args.lr,
        "optimizer": args.optimizer,
        "dtype": args.dtype,
        "seed": args.seed,
        "device": args.device,
        "compile": args.compile,
        "command": " ".join(["bn", *sys.argv[1:]]),
    }


def batch_size(args: argparse.Namespace, images: int, norms: Sequence[str]) -> int:
    """The images of a step; ValueError where they are too few for a batch norm."""
    size, parts = min(args.batch_size, images), getattr(args, "accumulate", 1)
    if size < args.batch_size:
        say(
            f"--batch-size {args.batch_size} is more than the {images} training "
            "images: each step takes them all"
        )
    if parts > size:
        raise ValueError(
            f"--accumulate must be at most the {size} images of a batch; got {parts}"
        )
    if size // parts < 2 and set(norms) != {"none"}:
        given = f"--batch-size {args.batch_size}"
        given += f", --accumulate {parts}" * (parts > 1)
        given += f", {images} training images" * (images <= args.batch_size)
        raise ValueError(f"a batch norm needs at least 2 images at a time; got {given}")
    return size


def load_data(args: argparse.Namespace) -> "Dataset":
    from bn_from_scratch import data

    whole, samples = data.load(args.data, args.data_dir), getattr(args, "samples", None)
    try:
        return whole.take(samples)
    except ValueError as error:
        raise ValueError(f"--samples: {error}") from None


def make_folder(path: str) -> None:
    """Before the work begins: a folder that cannot be is known at once."""
    try:
        pathlib.Path(path).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise type(error)(f"--out {path} cannot be made: {error.strerror}") from None
    if not os.access(path, os.W_OK | os.X_OK):
        raise PermissionError(f"--out {path} cannot be written into")


def refuse_existing(paths: Iterable[Any], overwrite: bool) -> None:
    """Before the work begins: what another run left is replaced only on request."""
    for path in paths:
        if os.path.isdir(path):
            raise IsADirectoryError(f"a file is to be written; {path} is a folder")
        if os.path.lexists(path) and not overwrite:
            raise FileExistsError(
                f"{path} exists; it is overwritten only on request: --overwrite"
            )


def show(found: Any, as_json: bool) -> None:
    """Print what was found, as text or as data."""
    if as_json:
        tell_json(found.as_dict())
    else:
        tell(str(found))


def tell(text: str) -> None:
    """Print a result, which may have lines."""
    print(visible(text, lines=True))


def tell_json(data: Any) -> None:
    """Print a result as JSON, in which NaN and infinity are null."""
    from bn_from_scratch.presentation.data import to_json

    tell(to_json(data).removesuffix("\n"))


def say_lost(runs: Iterable[dict[str, Any]]) -> bool:
    """Say which runs end in NaN or infinity, and whether any does."""
    import math

    lost = False
    for run in runs:
        name = f"{run['backend']} {run['norm']}"
        for step, loss in enumerate(run["loss"], 1):
            if not math.isfinite(loss):
                say_diverged(name, f"its loss is {loss} at step {step}")
                lost = True
                break
        else:
            if not math.isfinite(run["val_loss"]):
                say_diverged(name, f"its validation loss is {run['val_loss']}")
                lost = True
    return lost


def say_diverged(name: str, what: str) -> None:
    say(f"bn: error: the training of {name} diverged: {what}; a smaller --lr may help")


def say(text: str) -> None:
    print(visible(text), file=sys.stderr, flush=True)


def say_written(paths: Iterable[Any]) -> None:
    say("written: " + ", ".join(map(str, paths)))
