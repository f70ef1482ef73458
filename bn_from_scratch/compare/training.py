"""`bn compare training`: one network, one start, the same batches, every framework."""

import gc
import importlib.metadata
import os
import pathlib
import platform
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np

from bn_from_scratch import backends
from bn_from_scratch.backends.norms import norm_layer
from bn_from_scratch.compare import figures, report
from bn_from_scratch.compare.runs import Run
from bn_from_scratch.data import Dataset
from bn_from_scratch.files import write_atomically
from bn_from_scratch.presentation.data import to_json
from bn_from_scratch.presentation.table import Figure, table
from bn_from_scratch.training import History, Trainer, Weights

# How far the loss of two runs may differ at any step.  Rounding differs between
# frameworks, and each step of training lets a difference grow a little.
TOLERANCE = {"float32": 1e-3, "float64": 1e-10}
SAVED = ("results.json", "curves.png", "report.html")
PACKAGES = "numpy torch tensorflow keras jax flax optax mxnet".split()


def compare_training(
    names: Sequence[str],
    norms: Sequence[str],
    data: Dataset,
    *,
    dtype: str,
    seed: int,
    command: str,
    weights: Weights | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """Train a LeNet for each backend and norm; return the results as one dict.

    weights: named arrays to start from, instead of those of the seed.
    settings go to every Trainer: max_epochs, batch_size, lr, optimizer, ...
    """
    runs, predictions, accumulate = [], [], settings.get("accumulate", 1)
    for name in names:
        bn = backends.load(name, dtype)
        for norm in norms:
            layer = norm_layer(bn, norm, accumulate)
            model = bn.LeNet(layer, seed=seed, dtype=dtype)
            trainer = bn.Trainer(**settings, seed=seed, label=f"{name} {norm}")
            history = trainer.fit(model, data, weights)
            runs.append(describe_run(name, norm, bn, trainer, history, data.name))
            predictions.append(trainer.predict(data).argmax(axis=1))
            del model, trainer  # one network at a time in memory
            gc.collect()
    return {
        "data": data.name,
        "dtype": dtype,
        "epochs": settings["max_epochs"],
        "batch_size": settings["batch_size"],
        "accumulate": accumulate,
        "lr": settings["lr"],
        "optimizer": settings["optimizer"],
        "seed": seed,
        "train_samples": len(data.train_labels),
        "test_samples": len(data.test_labels),
        "command": command,
        "environment": environment(),
        "runs": runs,
        "agreement": agreement(runs, predictions, dtype),
    }


def describe_run(
    name: str,
    norm: str,
    bn: ModuleType,
    trainer: Trainer,
    history: History,
    data_name: str,
) -> Run:
    """One entry of results["runs"]."""
    weights = trainer.get_weights()
    learned = {k: weights.get(f"bn1.{k}", np.array([])) for k in ("gamma", "beta")}
    return {
        "backend": name,
        "norm": norm,
        "dtype": trainer.dtype,
        "data": data_name,
        "device": trainer.device_used,
        "loss": history.loss,
        "val_loss": history.val_loss[-1],
        "val_accuracy": history.val_accuracy[-1],
        "val_losses": history.val_loss,
        "val_accuracies": history.val_accuracy,
        "seconds": history.seconds,
        "images_per_second": history.images_per_second,
        **{name: value.tolist() for name, value in learned.items()},
        "setting": bn.builtin_translation() if norm == "builtin" else {},
    }


def agreement(
    runs: list[Run], predictions: list[np.ndarray], dtype: str
) -> dict[str, Any]:
    """How far the losses lie apart at any step; NaN counts as disagreement."""
    losses = np.array([run["loss"] for run in runs])
    keys = [f"{run['backend']}/{run['norm']}" for run in runs]
    pairs = np.abs(losses[:, None] - losses[None]).max(axis=2)
    apart = pairs.max(axis=1)
    scratch = [run["norm"] == "scratch" for run in runs]
    largest, tolerance = float(apart.max()), TOLERANCE[dtype]
    return {
        "tolerance": tolerance,
        "agree": largest <= tolerance,
        "largest_loss_difference": largest,
        "scratch_loss_difference": float(pairs[scratch][:, scratch].max(initial=0)),
        "loss_difference": dict(zip(keys, apart.tolist(), strict=True)),
        "predictions_unlike_the_first_run": {
            key: int(np.sum(labels != predictions[0]))
            for key, labels in zip(keys, predictions, strict=True)
        },
    }


def environment() -> dict[str, Any]:
    """Versions of what the figures were made with."""
    system = f"{platform.system()} {platform.machine()}"
    found: dict[str, Any] = {"python": platform.python_version(), "platform": system}
    found["cores"] = os.cpu_count()
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def save(results: dict[str, Any], folder: str | os.PathLike[str]) -> list[pathlib.Path]:
    """Write results.json, curves.png and report.html; return their paths."""
    folder = pathlib.Path(folder)
    paths = [folder / name for name in SAVED]
    write_atomically(paths[0], to_json(results))
    figures.curves(results, paths[1])
    report.html(results, paths[2])
    return paths


def render(results: dict[str, Any]) -> str:
    """The table, what was translated for each built-in, and the verdict."""
    agreed = results["agreement"]
    cells = [
        [
            run["backend"],
            run["norm"],
            f"{run['loss'][-1]:.6f}",
            f"{run['val_loss']:.4f}",
            f"{run['val_accuracy']:.4f}",
            f"{run['images_per_second']:,.0f}",
            Figure(agreed["loss_difference"][f"{run['backend']}/{run['norm']}"]),
        ]
        for run in results["runs"]
    ]
    header = ["backend", "norm", "final loss", "val. loss", "val. accuracy"]
    header += ["images/s", "largest loss difference"]
    steps = len(results["runs"][0]["loss"])
    lines = [
        f"{results['data']}: {results['train_samples']:,} images, {steps:,} steps of "
        f"{results['batch_size']}, {results['dtype']}, "
        f"{results['optimizer']} lr {results['lr']:g}.",
        "",
        table(header, cells),
        "",
    ]
    for run in results["runs"]:
        if run["setting"]:
            lines.append(f"For {run['backend']}'s built-in layer:")
            lines += [f"  {ours}: {theirs}" for ours, theirs in run["setting"].items()]
    largest, tolerance = agreed["largest_loss_difference"], agreed["tolerance"]
    start = "One curve" if agreed["agree"] else "The curves DO NOT agree"
    lines += ["", f"{start}: at every step the losses of {len(cells)} runs differ by "]
    lines[-1] += f"at most {largest:.1e} (tolerance {tolerance:.0e})."
    return "\n".join(lines)
