"""Training in PyTorch: one step, one prediction, weights in and out as NumPy."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bn_from_scratch import lenet, training
from bn_from_scratch.backends.torch.builtin import exchange_names
from bn_from_scratch.backends.torch.models.folding import fold_batch_norm
from bn_from_scratch.backends.torch.models.reestimation import pooled_statistics
from bn_from_scratch.backends.torch.models.surgery import batch_norms
from bn_from_scratch.surgery.description import Description
from bn_from_scratch.training import Part, Weights

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": torch.optim.SGD,
    "adam": torch.optim.Adam,
}


class Trainer(training.Trainer):
    """`Trainer(max_epochs=10).fit(model, data)` for a torch.nn.Module.

    optimizer may be a function (parameters, lr) -> torch.optim.Optimizer, too.
    compile=True runs the model through torch.compile; it is off by default.

    >>> trainer = bn.Trainer(max_epochs=1)
    >>> trainer.prepare(bn.BNLeNet())
    >>> trainer.logits(np.zeros((2, 1, 28, 28), "float32")).shape
    (2, 10)
    """

    dtype: str
    place: torch.device
    model: nn.Module
    forward: Callable[[Tensor], Tensor]
    updater: torch.optim.Optimizer

    def prepare(self, model: nn.Module) -> None:
        gpu = torch.cuda.is_available() and self.device != "cpu"
        if self.device == "gpu" and not gpu:
            raise ValueError("device gpu was asked for; PyTorch finds none")
        self.device_used = "gpu" if gpu else "cpu"
        self.place = torch.device("cuda" if gpu else "cpu")
        self.model = model.to(self.place)
        self.forward = torch.compile(model) if self.compile else model
        self.dtype = str(next(model.parameters()).dtype).removeprefix("torch.")
        make: Any = OPTIMIZERS.get(self.optimizer, self.optimizer)
        self.updater = make(model.parameters(), lr=self.lr)

    def train_parts(self, parts: list[Part]) -> Any:
        self.model.train()
        self.updater.zero_grad()
        losses = [self._backward(*part) for part in parts]
        self.updater.step()
        return sum(losses)

    def _backward(self, X: np.ndarray, y: np.ndarray, share: float) -> Tensor:
        """Add the gradients of a part to those there are.  -> its share of the loss"""
        logits = self.forward(self._to_device(X))
        loss = share * F.cross_entropy(logits, self._to_device(y))
        loss.backward()
        return loss.detach()

    def logits(self, X: np.ndarray) -> np.ndarray:
        self.model.eval()
        with torch.no_grad():
            return self.forward(self._to_device(X)).cpu().numpy()

    def activations(self, X: np.ndarray) -> dict[str, np.ndarray]:
        self.model.eval()
        Y, found = self._to_device(X), {}
        with torch.no_grad():
            for name, layer in self.model.named_children():
                found[name] = Y = layer(Y)
        return {k: v.cpu().numpy() for k, v in found.items() if k in lenet.LAYERS}

    def get_weights(self) -> Weights:
        named = exchange_names(self.model)
        return {name: v.detach().cpu().numpy().copy() for name, v in named.items()}

    def write_weights(self, weights: Weights) -> None:
        with torch.no_grad():
            for name, v in exchange_names(self.model).items():
                v.copy_(torch.as_tensor(weights[name]))

    def pooled_statistics(self, batches: Iterable[np.ndarray]) -> dict[str, Weights]:
        return pooled_statistics(self.model, batches)

    def descriptions(self) -> dict[str, Description]:
        return batch_norms(self.model)

    def fold_on(self, X: np.ndarray) -> None:
        self.prepare(fold_batch_norm(self.model, X))

    def _to_device(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(array).to(self.place)
