"""A batch norm in plain NumPy with bugs to switch on, and its record.

Written apart from the spec and from the checker's model of it, in the dtype of X, so
that what `diagnosis` finds is not what `diagnosis` itself computed.
"""

import numpy as np

from bn_from_scratch.diagnosis import protocol

# bug -> names under which it may be found.  A bug of several kinds takes one of them.
AXES = {
    "axes: batch only": (0,),
    "axes: per row": (0, 1, 3),
    "axes: per image column": (0, 1, 2),
    "axes: per example": (1, 2, 3),
    "axes: per image and channel": (2, 3),
    "axes: the channel axis": (1,),
    "axes: all": (0, 1, 2, 3),
}
ORDERS = {  # what gamma, beta, moving_mean and moving_var are taken from
    "parameter order: no beta": (0, 2, 3, None),
    "parameter order: no gamma": (1, 2, 3, None),
    "parameter order: beta first": (1, 0, 2, 3),
    "parameter order: variance first": (0, 1, 3, 2),
    "parameter order: statistics first": (2, 3, 0, 1),
}
BUGS = {
    "stored unbiased": ["stored variance: unbiased"],
    "momentum swapped": ["momentum weighs the old value"],
    "other momentum": ["momentum"],
    "other eps": ["eps"],
    "wrong axes": list(AXES),
    "never moved": ["moving averages: not updated"],
    "moved in prediction": ["updated in prediction mode"],
    "updated twice": ["updated twice"],
    "updated in backward": ["updated in backward"],
    "updated in backward too": ["updated in backward too"],
    "gamma fixed": ["gamma missing"],
    "parameters shifted": list(ORDERS),
    "one pass": ["one-pass variance"],
    "overflow": ["variance in 16 bits"],
    "padding counted": [f"padding: a border of {k} counted" for k in (1, 2)],
    "zeros left out": ["padding: zeros left out"],
    "frozen": ["training ignored: never training"],
    "pools": ["momentum pools"],
    "batch statistics in prediction": ["batch statistics in prediction"],
}
# Of each of these a layer can have but one.
EXCLUSIVE = [
    {"never moved", "updated twice", "updated in backward", "updated in backward too"},
    {"momentum swapped", "other momentum", "pools"},
    {"wrong axes", "zeros left out", "padding counted"},
    {"wrong axes", "one pass"},
    # Frozen, nothing moves in training; predicting as in training is one mistake.
    {"frozen", "moved in prediction"},
    {"batch statistics in prediction", "moved in prediction", "frozen"},
]


class Planted:
    """A layer with bugs: {bug: the name of its kind}."""

    def __init__(self, bugs, start, eps, momentum, other):
        self.bugs, self.eps, self.momentum = bugs, eps, momentum
        if "other eps" in bugs:
            self.eps = other["eps"]
        if "other momentum" in bugs:
            self.momentum = other["momentum"]
        if "momentum swapped" in bugs:
            self.momentum = 1 - momentum
        given = list(start.values())
        order = ORDERS.get(bugs.get("parameters shifted"), (0, 1, 2, 3))
        given = [np.ones_like(given[0]) if i is None else given[i] for i in order]
        self.gamma, self.beta, self.mean, self.var = given
        if "gamma fixed" in bugs:
            self.gamma = np.ones_like(self.gamma)
        self.batches = 0

    def statistics(self, X):
        """Mean and variance, with as many axes as X, and how many values gave them."""
        axes = AXES.get(self.bugs.get("wrong axes"), (0, *range(2, X.ndim)))
        axes = tuple(a for a in axes if a < X.ndim)
        if "padding counted" in self.bugs:
            k = int(self.bugs["padding counted"].split()[4])
            X = np.pad(X, [(0, 0), (0, 0)] + [(k, k)] * (X.ndim - 2))
        if "zeros left out" in self.bugs:
            valid = np.moveaxis(X, 1, -1)[(X != 0).any(1)]
            shape = (1, X.shape[1]) + (1,) * (X.ndim - 2)
            mean, var = valid.mean(0).reshape(shape), valid.var(0).reshape(shape)
            return mean, var, X.size // X.shape[1]
        n = np.prod([X.shape[a] for a in axes])
        mean = X.mean(axes, keepdims=True)
        if "one pass" in self.bugs:
            var = (X * X).mean(axes, keepdims=True) - mean * mean
            return mean, np.maximum(var, 0), n
        return mean, ((X - mean) ** 2).mean(axes, keepdims=True), n

    def call(self, X, dY, training):
        """One step: what a record holds of it."""
        shape = (1, X.shape[1]) + (1,) * (X.ndim - 2)
        gamma, beta = self.gamma.reshape(shape), self.beta.reshape(shape)
        uses_batch = training and "frozen" not in self.bugs
        used = [v.reshape(shape) if v.ndim == 1 else v for v in (self.mean, self.var)]
        mean, var, n = self.statistics(X.astype(self.gamma.dtype))
        batch = mean, var
        if uses_batch or "batch statistics in prediction" in self.bugs:
            used = list(batch)
        if "overflow" in self.bugs and X.dtype == np.float16 and uses_batch:
            used[1] = np.where(used[1] > np.finfo(np.float16).max, np.inf, used[1])
        std = np.sqrt(used[1] + self.eps)
        X_hat = (X - used[0]) / std
        found = {"Y": (gamma * X_hat + beta).astype(X.dtype)}
        moves = self._moves(uses_batch, training)
        stored = used[1] if uses_batch else var
        if "stored unbiased" in self.bugs:
            stored = stored * n / (n - 1)
        for _ in range(moves[0]):
            self._move(mean, stored)
        found |= self._moving("")
        if not training:
            return found
        axes = (0, *range(2, X.ndim))
        found["dbeta"] = dY.sum(axes)
        found["dgamma"] = (dY * X_hat).sum(axes)
        if "gamma fixed" in self.bugs:
            found["dgamma"] = 0 * found["dgamma"]
        found["dX"] = (gamma * dY / std).astype(X.dtype)
        if uses_batch:
            found["dX"] = self._backward(X, gamma * dY, X_hat, std)
        for _ in range(moves[1]):
            self._move(mean, stored)
        return found | self._moving("backward_")

    def _backward(self, X, g, X_hat, std):
        """dX of a normalization by the statistics of X."""
        axes = AXES.get(self.bugs.get("wrong axes"), (0, *range(2, X.ndim)))
        valid, n = np.ones_like(X), np.prod([X.shape[a] for a in axes if a < X.ndim])
        if "zeros left out" in self.bugs:
            valid = np.broadcast_to((X != 0).any(1, keepdims=True), X.shape)
            n = valid.sum() / X.shape[1]
        if "padding counted" in self.bugs:
            k = int(self.bugs["padding counted"].split()[4])
            n = X.shape[0] * np.prod([size + 2 * k for size in X.shape[2:]])
        axes = tuple(a for a in axes if a < X.ndim)
        one = g.sum(axes, keepdims=True) / n
        two = X_hat * (g * X_hat).sum(axes, keepdims=True) / n
        return ((g - valid * (one + two)) / std).astype(X.dtype)

    def _moves(self, uses_batch, training):
        """How often the averages move in the forward, and in the backward."""
        if not training:
            self.batches += 1
            return ("moved in prediction" in self.bugs, 0)
        if not uses_batch or "never moved" in self.bugs:
            return (0, 0)
        kinds = {
            "updated twice": (2, 0),
            "updated in backward": (0, 1),
            "updated in backward too": (1, 1),
        }
        self.batches += 1
        return next((v for k, v in kinds.items() if k in self.bugs), (1, 0))

    def _move(self, mean, var):
        m = 1 / max(self.batches, 1) if "pools" in self.bugs else self.momentum
        old = self._old(mean)
        self.mean = (1 - m) * old[0] + m * mean
        self.var = (1 - m) * old[1] + m * var
        if "wrong axes" not in self.bugs:
            self.mean, self.var = self.mean.ravel(), self.var.ravel()

    def _old(self, like):
        shape = (1, -1) + (1,) * (like.ndim - 2)
        return [v.reshape(shape) if v.ndim == 1 else v for v in (self.mean, self.var)]

    def _moving(self, prefix):
        """The averages, where they are one number per channel."""
        if "wrong axes" in self.bugs:
            return {}
        names = f"{prefix}moving_mean", f"{prefix}moving_var"
        return dict(zip(names, (self.mean, self.var), strict=True))


def record(
    bugs, sizes, dtype, seed, *, eps=1e-5, momentum=0.1, other=None, zeros=False
):
    """The record of a planted layer on the protocol's inputs.

    zeros: the last positions of every X are 0, as where sequences are padded.
    """
    start = protocol.start(sizes[0], dtype, seed)
    other = other or {"eps": 1e-3, "momentum": 0.01}
    layer, found = Planted(bugs, start, eps, momentum, other), dict(start)
    for event, given in protocol.calls(*sizes, dtype, seed):
        X, dY = given["X"], given.get("dY")
        if zeros:
            X = given["X"] = X.copy()
            X[..., -2:] = 0
        if event == "half":
            layer = Planted(bugs, start, eps, momentum, other)
            dY = dY.astype(dtype)
        answer = layer.call(X, dY, event != "prediction")
        if event == "half":
            answer.pop("dX")
        found |= {f"{event}.{k}": v for k, v in (given | answer).items()}
    return found
