"""Training in PyTorch: one step, one prediction, weights in and out as NumPy."""

import torch
from torch.nn import functional as F

from bn_from_scratch import lenet, training
from bn_from_scratch.backends.torch.builtin import exchange_names
from bn_from_scratch.backends.torch.models.folding import fold_batch_norm
from bn_from_scratch.backends.torch.models.reestimation import pooled_statistics

OPTIMIZERS = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}


class Trainer(training.Trainer):
    """`Trainer(max_epochs=10).fit(model, data)` for a torch.nn.Module.

    optimizer may be a function (parameters, lr) -> torch.optim.Optimizer, too.
    compile=True runs the model through torch.compile; it is off by default.
    """

    def prepare(self, model):
        gpu = torch.cuda.is_available() and self.device != "cpu"
        if self.device == "gpu" and not gpu:
            raise ValueError("device gpu was asked for; PyTorch finds none")
        self.device_used = "gpu" if gpu else "cpu"
        self.place = torch.device("cuda" if gpu else "cpu")
        self.model = model.to(self.place)
        self.forward = torch.compile(model) if self.compile else model
        self.dtype = str(next(model.parameters()).dtype).removeprefix("torch.")
        make = OPTIMIZERS.get(self.optimizer, self.optimizer)
        self.updater = make(model.parameters(), lr=self.lr)

    def train_parts(self, parts):
        self.model.train()
        self.updater.zero_grad()
        losses = [self._backward(*part) for part in parts]
        self.updater.step()
        return sum(losses)

    def _backward(self, X, y, share):
        """Add the gradients of a part to those there are.  -> its share of the loss"""
        X, y = self._to_device(X), self._to_device(y)
        loss = share * F.cross_entropy(self.forward(X), y)
        loss.backward()
        return loss.detach()

    def logits(self, X):
        self.model.eval()
        with torch.no_grad():
            return self.forward(self._to_device(X)).cpu().numpy()

    def activations(self, X):
        self.model.eval()
        X, found = self._to_device(X), {}
        with torch.no_grad():
            for name, layer in self.model.named_children():
                found[name] = X = layer(X)
        return {k: v.cpu().numpy() for k, v in found.items() if k in lenet.LAYERS}

    def get_weights(self):
        named = exchange_names(self.model)
        return {name: v.detach().cpu().numpy().copy() for name, v in named.items()}

    def write_weights(self, weights):
        with torch.no_grad():
            for name, v in exchange_names(self.model).items():
                v.copy_(torch.as_tensor(weights[name]))

    def pooled_statistics(self, batches):
        return pooled_statistics(self.model, batches)

    def fold_on(self, X):
        self.prepare(fold_batch_norm(self.model, X))

    def _to_device(self, array):
        return torch.from_numpy(array).to(self.place)
