"""The epoch loop, its history and its checkpoints; knows no framework."""

import json
import os
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import safetensors.numpy
from tqdm import tqdm

from bn_from_scratch import reading
from bn_from_scratch.files import write_atomically

if TYPE_CHECKING:  # it brings pooch, which training needs not
    from bn_from_scratch.data import Dataset

EVALUATION_BATCH = 1000  # prediction does not depend on the batch; larger is faster

HEADER = "bn_from_scratch"  # of a safetensors file: where the settings are, as JSON
SETTINGS = ("eps", "momentum", "correction", "statistics")

Weights = dict[str, np.ndarray]  # by name: "conv1.weight", "bn1.gamma"; channels first
Settings = dict[str, dict[str, Any]]  # of batch norms, by their paths
Part = tuple[np.ndarray, np.ndarray, float]  # X, y and its share of a batch


@dataclass
class History:
    """What a training run leaves: losses per step, validation per epoch, speed.

    >>> history = History(loss=[2.31, 2.05, 1.87], val_loss=[1.9], val_accuracy=[0.4])
    >>> len(history.loss), history.val_accuracy[-1]
    (3, 0.4)
    """

    loss: list[float] = field(default_factory=list)
    val_loss: list[float] = field(default_factory=list)
    val_accuracy: list[float] = field(default_factory=list)
    seconds: float = 0.0  # in training steps
    images_per_second: float = 0.0  # without the first step, which compiles


class Trainer:
    """Train a classifier of images: `Trainer(max_epochs=10).fit(model, data)`.

    optimizer: "sgd", "adam" or what the framework itself takes as one.
    device: "auto" takes a GPU when there is one; "cpu" or "gpu" insist.
    compile: None is the backend's custom.  checkpoint: a .safetensors file, written
    after every epoch.  progress: a live bar and a line per epoch, on standard error.
    accumulate: each step takes its batch in so many micro-batches, in a fraction of the
    memory, and averages their gradients.  Without batch norm that is the same step.
    With it, each micro-batch is normalized by itself, so that the step is another one;
    AccumBatchNorm(steps=accumulate) keeps at least the moving averages to one update.

    The Trainer of a backend supplies the methods from `prepare` to `fold_on`.

    >>> Trainer(batch_size=8, accumulate=16)
    Traceback (most recent call last):
    ValueError: a batch of 8 has no 16 micro-batches
    """

    def __init__(
        self,
        max_epochs: int = 10,
        lr: float = 0.1,
        batch_size: int = 128,
        optimizer: Any = "sgd",
        seed: int = 0,
        device: str = "auto",
        compile: bool | None = None,
        checkpoint: str | os.PathLike[str] | None = None,
        progress: bool = True,
        label: str = "",
        accumulate: int = 1,
    ) -> None:
        numbers = {"max_epochs": max_epochs, "batch_size": batch_size}
        for name, value in (numbers | {"accumulate": accumulate}).items():
            if value < 1:
                raise ValueError(f"{name} must be at least 1; got {value}")
        if accumulate > batch_size:
            raise ValueError(
                f"a batch of {batch_size} has no {accumulate} micro-batches"
            )
        if device not in ("auto", "cpu", "gpu"):
            raise ValueError(f"device must be auto, cpu or gpu; got {device!r}")
        self.max_epochs = max_epochs
        self.lr = lr
        self.batch_size = batch_size
        self.optimizer = optimizer
        self.seed = seed
        self.device = device
        self.compile = compile
        self.checkpoint = checkpoint
        self.progress = progress
        self.label = label
        self.accumulate = accumulate

    # --- What the Trainer of a backend adds ----------------------------------------

    dtype: str  # of the model that was prepared, as NumPy names it
    device_used: str  # "cpu" or "gpu"

    def prepare(self, model: Any) -> None:
        """Take a model: place it, make the optimizer, compile."""
        raise NotImplementedError

    def train_parts(self, parts: list[Part]) -> Any:
        """One step on `micro_batches`.  -> its loss, before the step"""
        raise NotImplementedError

    def logits(self, X: np.ndarray) -> np.ndarray:
        """In prediction mode.  [N, 1, 28, 28] -> [N, 10]."""
        raise NotImplementedError

    def activations(self, X: np.ndarray) -> dict[str, np.ndarray]:
        """Of a LeNet: {layer with weights: its output}, channels first."""
        raise NotImplementedError

    def get_weights(self) -> Weights:
        """The model's weights and statistics, copied."""
        raise NotImplementedError

    def write_weights(self, weights: Weights) -> None:
        """The same, back into the model; their names and shapes are right."""
        raise NotImplementedError

    def pooled_statistics(self, batches: Iterable[np.ndarray]) -> dict[str, Weights]:
        """What `reestimate` writes: {path: {"moving_mean": array, ...}}."""
        raise NotImplementedError

    def descriptions(self) -> dict[str, Any]:
        """{path: Description} of the model's batch norms; {} where none are known."""
        return {}

    def fold_on(self, X: np.ndarray) -> None:
        """Go on with the model without its batch norms, proven on this input."""
        raise NotImplementedError

    # --- What all have --------------------------------------------------------------

    def fit(
        self, model: Any, data: "Dataset", weights: Weights | None = None
    ) -> History:
        """Train on `data` from the model's weights, or from these; return a History."""
        self.prepare(model)
        if weights is not None:
            self.set_weights(weights)
        history = History()
        for epoch in range(self.max_epochs):
            self.fit_epoch(data, epoch, history)
            loss, accuracy = self.evaluate(data)
            history.val_loss.append(loss)
            history.val_accuracy.append(accuracy)
            if self.checkpoint:
                self.save_weights(self.checkpoint)
            if self.progress:
                print(self._epoch_line(epoch, history), file=sys.stderr, flush=True)
        return history

    def save_weights(self, path: str | os.PathLike[str]) -> None:
        """Write the weights to a safetensors file, with the settings of batch norms."""
        save_weights(path, self.get_weights(), self.settings())

    def settings(self) -> Settings:
        """What a batch norm is, beside its weights: {path: {"eps": 1e-05, ...}}."""
        found = {path: d.settings for path, d in self.descriptions().items()}
        return {
            path: {name: _plain(given[name]) for name in SETTINGS}
            for path, given in found.items()
        }

    def set_weights(self, weights: Weights) -> None:
        """Put named NumPy arrays, channels first, into the model that was prepared.

        Raises ValueError unless names and shapes are those of `get_weights`.
        """
        check_weights(self.get_weights(), weights)
        self.write_weights(weights)

    def reestimate(self, data: "Dataset") -> None:
        """Replace the moving averages by the pooled statistics of the training set.

        Every batch norm takes those of its inputs, batch by batch as in training; the
        result is exact, not an average that forgets.
        """
        batches = data.whole_batches(self.batch_size, self.seed, self.dtype)
        weights = self.get_weights()
        for path, values in self.pooled_statistics(X for X, _ in batches).items():
            for name, v in values.items():
                like = weights[f"{path}.{name}"]
                weights[f"{path}.{name}"] = v.astype(like.dtype)
        self.set_weights(weights)

    def fold(self, data: "Dataset") -> None:
        """Go on with the model whose batch norms are folded into the layers before."""
        X, _ = next(data.test_batches(self.batch_size, self.dtype))
        self.fold_on(X)

    def fit_epoch(self, data: "Dataset", epoch: int, history: History) -> None:
        """One pass over the training set; adds its losses and its time to `history`."""
        images = len(data.train_labels)
        title = f"{self.label} {epoch + 1}/{self.max_epochs}".strip()
        quiet = None if self.progress else True  # None: a bar on a terminal only
        bar = tqdm(total=images, desc=title, unit=" images", leave=False, disable=quiet)
        batches = data.train_batches(self.batch_size, self.seed, epoch, self.dtype)
        seen, later_seconds = 0, 0.0
        with bar:
            for X, y in batches:
                start = time.perf_counter()
                loss = float(self.train_step(X, y))
                seconds = time.perf_counter() - start
                history.seconds += seconds
                if history.loss:
                    seen, later_seconds = seen + len(y), later_seconds + seconds
                history.loss.append(loss)
                bar.set_postfix(loss=f"{loss:.4f}", refresh=False)
                bar.update(len(y))
        if seen:
            history.images_per_second = seen / later_seconds

    def train_step(self, X: np.ndarray, y: np.ndarray) -> Any:
        """One step on a batch [N, C, H, W], [N].  -> its loss, before the step"""
        return self.train_parts(micro_batches(X, y, self.accumulate))

    def predict(self, data: "Dataset") -> np.ndarray:
        """Logits of the test set, in prediction mode.  -> float64 [N, 10]."""
        batches = data.test_batches(EVALUATION_BATCH, self.dtype)
        return np.concatenate([self.logits(X).astype(np.float64) for X, _ in batches])

    def evaluate(self, data: "Dataset") -> tuple[float, float]:
        """Mean cross-entropy and accuracy on the test set, in prediction mode."""
        logits, labels = self.predict(data), data.test_labels
        accuracy = np.mean(logits.argmax(axis=1) == labels)
        return float(cross_entropy(logits, labels)), float(accuracy)

    def _epoch_line(self, epoch: int, history: History) -> str:
        title = f"{self.label} epoch {epoch + 1}/{self.max_epochs}".strip()
        return (
            f"{title}: loss {history.loss[-1]:.4f}, "
            f"validation loss {history.val_loss[-1]:.4f}, "
            f"accuracy {history.val_accuracy[-1]:.4f}, "
            f"{history.images_per_second:,.0f} images/s"
        )


def micro_batches(X: np.ndarray, y: np.ndarray, count: int) -> list[Part]:
    """Parts of a batch: (X, y, share) each, shares of the examples that add up to 1."""
    parts = zip(np.array_split(X, count), np.array_split(y, count), strict=True)
    return [(X, labels, len(labels) / len(y)) for X, labels in parts]


def cross_entropy(logits: np.ndarray, labels: np.ndarray) -> float:
    """Mean of -log softmax(logits)[label].  [N, K], [N] -> scalar."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_sum = np.log(np.exp(shifted).sum(axis=1))
    return np.mean(log_sum - shifted[np.arange(len(labels)), labels])


def save_weights(
    path: str | os.PathLike[str], weights: Weights, settings: Settings | None = None
) -> None:
    """Write named arrays to a safetensors file, whole or not at all.

    settings: of the batch norms among them, for the header of the file.
    """
    header = {HEADER: json.dumps(settings)} if settings else None
    # safetensors writes the memory of an array, so a transposed view comes out wrong.
    arrays = {name: np.ascontiguousarray(w) for name, w in weights.items()}
    write_atomically(path, safetensors.numpy.save(arrays, header))


def load_weights(path: str | os.PathLike[str]) -> Weights:
    """Named arrays of a safetensors file; ValueError for a file that is not one."""
    content = reading.content(path)
    with reading.door(f"{path} is not a whole safetensors file"):
        try:
            return safetensors.numpy.load(content)
        except KeyError as error:  # what its table of dtypes lacks
            raise ValueError(f"NumPy has no {error.args[0]}") from None


def _plain(setting):
    """1 - 0.9 is 0.09999999999999998; a file says 0.1."""
    return float(f"{setting:.12g}") if isinstance(setting, float) else setting


def check_weights(expected: Weights, given: Weights) -> None:
    """Raise ValueError unless two {name: array} agree in names and shapes."""
    if lacking := [name for name in expected if name not in given]:
        raise ValueError(f"the weights lack {', '.join(lacking)}")
    if unknown := [name for name in given if name not in expected]:
        raise ValueError(f"the model has no {', '.join(unknown)}")
    for name, array in expected.items():
        if given[name].shape != array.shape:
            raise ValueError(
                f"{name} has shape {array.shape}; the weights give {given[name].shape}"
            )
