"""A LeNet after its training: statistics taken anew, 8 bits, no batch norm left."""

import dataclasses
from functools import partial
from types import ModuleType
from typing import Any

from bn_from_scratch import backends
from bn_from_scratch.backends.norms import norm_layer
from bn_from_scratch.data import Dataset
from bn_from_scratch.presentation.table import table
from bn_from_scratch.training import Trainer, Weights


@dataclasses.dataclass(frozen=True)
class Phase:
    """What the network was worth on the test set after a phase.

    >>> print(render([Phase("trained, 2 epochs", 0.8215, 0.4891)]))
    phase              validation accuracy    loss
    -----------------  -------------------  ------
    trained, 2 epochs               0.8215  0.4891
    """

    phase: str
    val_accuracy: float
    val_loss: float


def train_in_phases(
    backend: str,
    norm: str,
    data: Dataset,
    *,
    max_epochs: int,
    dtype: str = "float32",
    seed: int = 0,
    weights: Weights | None = None,
    reestimate: bool = False,
    quantize_after: int | None = None,
    accumulate: int = 1,
    **settings: Any,
) -> tuple[list[Phase], Trainer]:
    """Train a LeNet, then take it through further phases.  -> [Phase], the Trainer

    reestimate: replace the moving averages by the statistics of the training set, and
    once more after the fine-tuning that `quantize_after` brings.
    quantize_after: the epoch after which gamma, beta and the statistics are rounded to
    8 bits in every step, the gradient passing as if they were not; in the end each
    batch norm is folded into the layer before it.
    """
    epochs = max_epochs if quantize_after is None else quantize_after
    if quantize_after is not None and not 1 <= quantize_after < max_epochs:
        raise ValueError(
            f"quantize_after must be at least 1 and below max_epochs={max_epochs}; "
            f"got {quantize_after}"
        )
    bn, settings = backends.load(backend, dtype), settings | {"accumulate": accumulate}
    trainer = bn.Trainer(max_epochs=epochs, seed=seed, **settings)
    model = bn.LeNet(norm_layer(bn, norm, accumulate), seed, dtype)
    trainer.fit(model, data, weights)
    phases = [phase(f"trained, {count(epochs)}", trainer, data)]
    if reestimate:
        trainer.reestimate(data)
        phases.append(phase("statistics re-estimated", trainer, data))
    if quantize_after is not None:
        learned, left = trainer.get_weights(), max_epochs - quantize_after
        trainer = bn.Trainer(max_epochs=left, seed=seed + 1, **settings)
        phases += quantize(bn, trainer, learned, data, dtype, reestimate)
    return phases, trainer


def quantize(
    bn: ModuleType,
    trainer: Trainer,
    weights: Weights,
    data: Dataset,
    dtype: str,
    reestimate: bool,
) -> list[Phase]:
    """Round, fine-tune and fold the LeNet of these weights.  -> [Phase]"""
    norm, settings = bn.TransformedBatchNorm, {"transform": bn.fake_quantize}
    if trainer.accumulate > 1:
        norm = bn.combine("accumulate", "transform")
        settings |= {"steps": trainer.accumulate}
    norm = partial(norm, straight_through=True, **settings)
    model = bn.LeNet(norm, dtype=dtype)
    trainer.prepare(model)
    trainer.set_weights(weights)
    phases = [phase("rounded to 8 bits", trainer, data)]
    trainer.fit(model, data, weights)
    title = f"fine-tuned in 8 bits, {count(trainer.max_epochs)}"
    phases.append(phase(title, trainer, data))
    if reestimate:
        trainer.reestimate(data)
        phases.append(phase("statistics re-estimated", trainer, data))
    trainer.fold(data)
    return [*phases, phase("folded: no batch norm left", trainer, data)]


def phase(title: str, trainer: Trainer, data: Dataset) -> Phase:
    loss, accuracy = trainer.evaluate(data)
    return Phase(title, accuracy, loss)


def count(epochs: int) -> str:
    return f"{epochs} epoch" + "s" * (epochs != 1)


def render(phases: list[Phase]) -> str:
    """The phases as a table."""
    rows = [[p.phase, f"{p.val_accuracy:.4f}", f"{p.val_loss:.4f}"] for p in phases]
    return table(["phase", "validation accuracy", "loss"], rows)
