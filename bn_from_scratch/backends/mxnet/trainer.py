"""Training in MXNet: one step, one prediction, weights in and out as NumPy."""

import warnings

import mxnet
from mxnet import autograd, gluon, np

from bn_from_scratch import lenet, training
from bn_from_scratch.backends.mxnet.builtin import exchange_names
from bn_from_scratch.backends.mxnet.models.folding import fold_batch_norm
from bn_from_scratch.backends.mxnet.models.reestimation import pooled_statistics


class SGD(mxnet.optimizer.Optimizer):
    """weight - lr * grad; MXNet's own "sgd" reads its lr as float32: 0.1 + 1.5e-9."""

    def create_state(self, index, weight):
        return None

    def update(self, index, weight, grad, state):
        weight[:] -= self._get_lr(index) * grad


OPTIMIZERS = {"sgd": SGD, "adam": mxnet.optimizer.Adam}


class Trainer(training.Trainer):
    """`Trainer(max_epochs=10).fit(model, data)` for a gluon.Block.

    optimizer may be a function learning_rate -> mxnet.optimizer.Optimizer, too.
    compile=False leaves the blocks that can be hybridized as they are.
    """

    def prepare(self, model):
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
        make = OPTIMIZERS.get(self.optimizer, self.optimizer)
        updater = make(learning_rate=self.lr)
        parameters = model.collect_params()
        self.learned = [p for p in parameters.values() if p.grad_req != "null"]
        self.updater = gluon.Trainer(parameters, updater)
        self.loss = gluon.loss.SoftmaxCrossEntropyLoss()

    def train_parts(self, parts):
        losses = [self._backward(*parts[0])]
        for part in parts[1:]:  # grad_req "add" would lose gradients of our layers
            so_far = [p.grad().copy() for p in self.learned]
            losses.append(self._backward(*part))
            for p, g in zip(self.learned, so_far, strict=True):
                p.grad()[()] += g
        self.updater.step(batch_size=1)  # the loss is a mean already
        return sum(losses)

    def _backward(self, X, y, share):
        """Write the gradients of a part.  -> its share of the loss"""
        X, y = self._to_device(X), self._to_device(y)
        with autograd.record():
            loss = share * self.loss(self.model(X), y).mean()
        loss.backward()
        return loss

    def logits(self, X):
        return self.model(self._to_device(X)).asnumpy()

    def activations(self, X):
        X, found = self._to_device(X), {}
        for name, layer in self.model._children.items():
            found[name] = X = layer(X)
        return {k: v.asnumpy() for k, v in found.items() if k in lenet.LAYERS}

    def get_weights(self):
        named = exchange_names(self.model)
        return {name: p.data().asnumpy() for name, p in named.items()}

    def write_weights(self, weights):
        for name, p in exchange_names(self.model).items():
            p.set_data(np.array(weights[name], dtype=p.dtype))

    def pooled_statistics(self, batches):
        return pooled_statistics(self.model, batches)

    def fold_on(self, X):
        with warnings.catch_warnings():
            # It could be a HybridSequential now, says Gluon.
            warnings.simplefilter("ignore", UserWarning)
            self.prepare(fold_batch_norm(self.model, X))

    def _to_device(self, array):
        return np.array(array, dtype=array.dtype, ctx=self.place)
