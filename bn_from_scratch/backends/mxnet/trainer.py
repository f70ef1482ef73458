"""Training in MXNet: one step, one prediction, weights in and out as NumPy."""

import warnings
from collections.abc import Callable, Iterable
from typing import Any

import mxnet
import numpy
from mxnet import autograd, gluon, np
from mxnet.numpy import ndarray

from bn_from_scratch import lenet, training
from bn_from_scratch.backends.mxnet.builtin import exchange_names
from bn_from_scratch.backends.mxnet.models.folding import fold_batch_norm
from bn_from_scratch.backends.mxnet.models.reestimation import pooled_statistics
from bn_from_scratch.backends.mxnet.models.surgery import batch_norms
from bn_from_scratch.surgery.description import Description
from bn_from_scratch.training import Part, Weights


class SGD(mxnet.optimizer.Optimizer):
    """weight - lr * grad; MXNet's own "sgd" reads its lr as float32: 0.1 + 1.5e-9."""

    def create_state(self, index: int, weight: ndarray) -> None:
        """It has none."""

    def update(self, index: int, weight: ndarray, grad: ndarray, state: None) -> None:
        """Change the weight in place."""
        weight[:] -= self._get_lr(index) * grad


OPTIMIZERS: dict[str, Callable[..., mxnet.optimizer.Optimizer]] = {
    "sgd": SGD,
    "adam": mxnet.optimizer.Adam,
}


class Trainer(training.Trainer):
    """`Trainer(max_epochs=10).fit(model, data)` for a gluon.Block.

    optimizer may be a function learning_rate -> mxnet.optimizer.Optimizer, too.
    compile=False leaves the blocks that can be hybridized as they are.

    >>> trainer = bn.Trainer(max_epochs=1)
    >>> trainer.prepare(bn.BNLeNet())
    >>> trainer.logits(numpy.zeros((2, 1, 28, 28), "float32")).shape
    (2, 10)
    """

    dtype: str
    place: mxnet.Context
    model: gluon.Block
    learned: list[gluon.Parameter]
    updater: Any
    loss: Callable[..., ndarray]

    def prepare(self, model: gluon.Block) -> None:
        gpu = mxnet.context.num_gpus() > 0 and self.device != "cpu"
        if self.device == "gpu" and not gpu:
            raise ValueError("device gpu was asked for; MXNet finds none")
        self.device_used = "gpu" if gpu else "cpu"
        self.place = mxnet.gpu() if gpu else mxnet.cpu()
        self.model = model
        model.collect_params().reset_ctx(self.place)
        if self.compile is not False:
            model.hybridize()
        self.dtype = next(iter(exchange_names(model).values())).data().dtype.name
        make: Any = OPTIMIZERS.get(self.optimizer, self.optimizer)
        updater = make(learning_rate=self.lr)
        parameters = model.collect_params()
        self.learned = [p for p in parameters.values() if p.grad_req != "null"]
        self.updater = gluon.Trainer(parameters, updater)
        self.loss = gluon.loss.SoftmaxCrossEntropyLoss()

    def train_parts(self, parts: list[Part]) -> Any:
        losses = [self._backward(*parts[0])]
        for part in parts[1:]:  # grad_req "add" would lose gradients of our layers
            so_far = [p.grad().copy() for p in self.learned]
            losses.append(self._backward(*part))
            for p, g in zip(self.learned, so_far, strict=True):
                p.grad()[()] += g
        self.updater.step(batch_size=1)  # the loss is a mean already
        return sum(losses)

    def _backward(self, X: numpy.ndarray, y: numpy.ndarray, share: float) -> ndarray:
        """Write the gradients of a part.  -> its share of the loss"""
        given, labels = self._to_device(X), self._to_device(y)
        with autograd.record():
            loss = share * self.loss(self.model(given), labels).mean()
        loss.backward()
        return loss

    def logits(self, X: numpy.ndarray) -> numpy.ndarray:
        return self.model(self._to_device(X)).asnumpy()

    def activations(self, X: numpy.ndarray) -> dict[str, numpy.ndarray]:
        Y, found = self._to_device(X), {}
        for name, layer in self.model._children.items():
            found[name] = Y = layer(Y)
        return {k: v.asnumpy() for k, v in found.items() if k in lenet.LAYERS}

    def get_weights(self) -> Weights:
        named = exchange_names(self.model)
        return {name: p.data().asnumpy() for name, p in named.items()}

    def write_weights(self, weights: Weights) -> None:
        for name, p in exchange_names(self.model).items():
            p.set_data(np.array(weights[name], dtype=p.dtype))

    def pooled_statistics(self, batches: Iterable[numpy.ndarray]) -> dict[str, Weights]:
        return pooled_statistics(self.model, batches)

    def descriptions(self) -> dict[str, Description]:
        return batch_norms(self.model)

    def fold_on(self, X: numpy.ndarray) -> None:
        with warnings.catch_warnings():
            # It could be a HybridSequential now, says Gluon.
            warnings.simplefilter("ignore", UserWarning)
            self.prepare(fold_batch_norm(self.model, X))

    def _to_device(self, array: numpy.ndarray) -> ndarray:
        return np.array(array, dtype=array.dtype, ctx=self.place)
