"""A LeNet trained in each framework, carried to the others, and evaluated in all."""

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from bn_from_scratch import backends
from bn_from_scratch.backends.norms import norm_layer
from bn_from_scratch.data import Dataset
from bn_from_scratch.port import files, network
from bn_from_scratch.port.carry import port
from bn_from_scratch.port.words import TITLES
from bn_from_scratch.presentation.table import Figure, table

SAVED = {"torch": ".pt", "tensorflow": ".keras", "jax": ".msgpack", "mxnet": ".params"}


def compare_ports(
    folder: str | PathLike[str],
    data: Dataset,
    names: Sequence[str] | None = None,
    norm: str = "builtin",
    seed: int = 0,
    **settings: Any,
) -> dict[str, Any]:
    """Train, save, port and evaluate; the files stay in the folder.

    Each framework trains with a seed of its own, or all would be the same network.
    settings: those of a Trainer.  Returns a dict with a cell for each framework that
    trained and each that evaluates: accuracy on the test set, the predictions that
    differ from those of the trained model, and the largest difference of a logit.
    """
    names, folder = names or backends.installed(), Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    cells = []
    for own_seed, source in enumerate(names, seed):
        bn = backends.load(source)
        trainer = bn.Trainer(**({"progress": False, "seed": own_seed} | settings))
        history = trainer.fit(bn.LeNet(norm_layer(bn, norm), own_seed), data)
        if not np.isfinite([*history.loss, *history.val_loss]).all():
            raise ValueError(
                f"the training of {source} diverged, and NaN is carried to nobody; a "
                "smaller lr may help"
            )
        saved = folder / f"{source}{SAVED[source]}"
        files.save_model(saved, trainer)
        expected = trainer.predict(data)
        for target in names:
            path = saved
            if target != source:
                path = folder / f"{source}_to_{target}{files.CUSTOMARY[target]}"
                port(saved, target, path, overwrite=True)
            found = network.logits(path, data)
            cells.append(_cell(source, target, found, expected, data.test_labels))
    return {"data": data.name, "norm": norm, "images": len(expected), "cells": cells}


def paths(folder: str | PathLike[str], names: Sequence[str]) -> list[str]:
    """The files that `compare_ports` writes into a folder."""
    ported = [
        f"{source}_to_{target}{files.CUSTOMARY[target]}"
        for source in names
        for target in names
        if source != target
    ]
    saved = [f"{name}{SAVED[name]}" for name in names]
    return [str(Path(folder, name)) for name in (*saved, *ported)]


def agree(results: dict[str, Any]) -> bool:
    """Whether no prediction differs."""
    return all(cell["differing"] == 0 for cell in results["cells"])


def render(results: dict[str, Any]) -> str:
    """The table: a row for where it was trained, a column for where it is evaluated."""
    names = list(dict.fromkeys(cell["source"] for cell in results["cells"]))
    cells = {(cell["source"], cell["target"]): cell for cell in results["cells"]}

    def square(show):
        header = ["trained in", *(TITLES[name] for name in names)]
        rows = [
            [TITLES[source], *(show(cells[source, target]) for target in names)]
            for source in names
        ]
        return table(header, rows)

    worst = Figure(max(cell["logits"] for cell in results["cells"]))
    verdict = "every prediction" if agree(results) else "NOT every prediction"
    return "\n".join(
        [
            f"{results['data']}, LeNet with the {results['norm']} norm: accuracy on "
            f"{results['images']:,} test images, evaluated in",
            "",
            square(lambda cell: f"{cell['accuracy']:.4f}"),
            "",
            "predictions that differ from the trained model's:",
            "",
            square(lambda cell: f"{cell['differing']}"),
            "",
            f"Carried over, {verdict} is the same; logits differ by at most {worst}.",
        ]
    )


def _cell(source, target, logits, expected, labels):
    classes = logits.argmax(axis=1)
    return {
        "source": source,
        "target": target,
        "accuracy": float(np.mean(classes == labels)),
        "differing": int(np.sum(classes != expected.argmax(axis=1))),
        "logits": float(np.abs(logits - expected).max()),
    }
