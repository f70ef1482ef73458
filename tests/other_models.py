"""Small models as other people write them, in every framework: {kind: model}.

own: a batch norm with a forward of its own.  like: a layer that only looks like one.
none: no batch norm.  two: two inputs, and a tree of outputs.  casts: float32 on the
way.  dropout: between the linear layer and the batch norm.  pre: before it, too.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from conftest import load_or_skip

from bn_from_scratch.health import health

X = np.random.default_rng(0).normal(1, 2, (8, 5)).astype("float32")


class Zoo(NamedTuple):
    """The models of a framework, and what works on them."""

    bn: Any
    models: dict[str, Any]
    forward: str  # the name of the method that a subclass overrides
    builtin: str  # the class of its batch norm
    tools: dict[str, Callable[..., Any]]  # tool(model, X), by what is done
    replace: Callable[..., Any]  # (model, make, X) -> model
    fold: Callable[..., Any]  # (model, X, partial) -> model or (model, left)
    reestimate: Callable[..., Any]  # (model, batches) -> model
    predict: Callable[..., Any]  # (model, X) -> answer
    describe: Callable[..., Any]  # (model, X) -> {path: Description}


def zoo(bn, models, forward, builtin, predict):
    """That of a framework whose models hold their state."""
    return Zoo(
        bn,
        models,
        forward,
        builtin,
        {
            "replaced": lambda m, x: bn.replace_batch_norm(m, bn.BatchNorm, x),
            "replaced ": lambda m, x: bn.replace_batch_norm(m, bn.BatchNorm),
            "folded": bn.fold_batch_norm,
            "re-estimated": lambda m, x: bn.reestimate(m, [x]),
            "examined": lambda m, x: health(m, x),
            "examined ": lambda m, x: health(m),
        },
        bn.replace_batch_norm,
        lambda m, x, partial=False: bn.fold_batch_norm(m, x, partial=partial),
        bn.reestimate,
        predict,
        lambda m, x=X: bn.batch_norms(m),
    )


# What the models do, where layers are attributes and calls are calls.
FORWARD = {
    "own": lambda m, a: m.norm(m.dense(a)),
    "like": lambda m, a: m.norm(m.dense(a)),
    "none": lambda m, a: m.dense(a),
    "two": lambda m, a, b: {"y": m.norm(m.dense(a)), "more": (None, [b + 1])},
    "casts": lambda m, a: m.norm(m.dense(m.to_float32(a))),
    "dropout": lambda m, a: m.norm(m.drop(m.dense(a))),
    "pre": lambda m, a: m.last(m.dense(m.norm(a))),
}


def in_torch():
    bn = load_or_skip("torch")
    import torch
    from torch import nn

    class Net(nn.Module):
        def __init__(self, kind, **layers):
            super().__init__()
            self.kind, self.dense, self.norm = kind, nn.Linear(5, 5), nn.BatchNorm1d(5)
            self.drop = nn.Sequential(nn.Dropout(), nn.Identity())
            for name, layer in layers.items():
                setattr(self, name, layer)

        def forward(self, a, b=None):
            return FORWARD[self.kind](self, *([a] if b is None else [a, b]))

        def to_float32(self, a):
            return a.float()

    class Relu(nn.BatchNorm1d):
        def forward(self, input):
            return super().forward(input).relu()

    class Like(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("running_mean", torch.zeros(5))
            self.register_buffer("running_var", torch.ones(5))

        def forward(self, X):
            return X

    def predict(model, x):
        args = [torch.from_numpy(v) for v in (x if isinstance(x, tuple) else (x,))]
        return model.eval()(*args)

    torch.manual_seed(0)
    own = {"own": {"norm": Relu(5)}, "like": {"norm": Like()}, "none": {"norm": None}}
    own["pre"] = {"last": nn.BatchNorm1d(5)}
    models = {kind: Net(kind, **own.get(kind, {})) for kind in FORWARD}
    return zoo(bn, models, "forward", "BatchNorm1d", predict)


def in_mxnet():
    bn = load_or_skip("mxnet")
    from mxnet import np as mxnp
    from mxnet import npx
    from mxnet.gluon import Block, nn

    class Net(Block):
        def __init__(self, kind, **layers):
            super().__init__()
            self.kind, self.dense = kind, nn.Dense(5, in_units=5, flatten=False)
            self.norm = layers.get("norm") or nn.BatchNorm(in_channels=5)
            self.drop = nn.Dropout(0.5)
            if "last" in layers:
                self.last = layers["last"]

        def forward(self, a, b=None):
            return FORWARD[self.kind](self, *([a] if b is None else [a, b]))

        def to_float32(self, a):
            return a.astype("float32")

    class Relu(nn.BatchNorm):
        def hybrid_forward(self, F, x, **state):
            return npx.relu(super().hybrid_forward(F, x, **state))

    class Like(Block):
        def __init__(self):
            super().__init__()
            self.running_mean = self.params.get("running_mean", shape=(5,))
            self.running_var = self.params.get("running_var", shape=(5,))

        def forward(self, X):
            return X

    def predict(model, x):
        args = [mxnp.array(v) for v in (x if isinstance(x, tuple) else (x,))]
        return model(*args)

    own = {"own": {"norm": Relu(in_channels=5)}, "like": {"norm": Like()}}
    own |= {"none": {"norm": nn.Dense(1)}}
    own["pre"] = {"last": nn.BatchNorm(in_channels=5)}
    models = {kind: Net(kind, **own.get(kind, {})) for kind in FORWARD}
    for model in models.values():
        model.initialize()
    return zoo(bn, models, "hybrid_forward", "BatchNorm", predict)


def in_tensorflow():
    bn = load_or_skip("tensorflow")
    import keras
    import tensorflow as tf
    from keras import layers as nn

    @keras.saving.register_keras_serializable()
    class Relu(nn.BatchNormalization):
        def call(self, inputs, training=None, mask=None):
            return keras.ops.relu(super().call(inputs, training, mask))

    @keras.saving.register_keras_serializable()
    class Like(nn.Layer):
        def build(self, shape):
            self.moving_mean = self.add_weight(shape=(5,), name="moving_mean")
            self.moving_variance = self.add_weight(shape=(5,), name="moving_variance")

        def call(self, X):
            return X

    def net(kind):
        a, b = keras.Input((5,), name="a"), keras.Input((5,), name="b")
        kinds = {"own": Relu, "like": Like, "none": nn.Identity}
        norm = kinds.get(kind, nn.BatchNormalization)(name="norm")
        if kind == "pre":
            last = nn.BatchNormalization(name="last")
            return keras.Model(a, last(nn.Dense(5)(norm(a))))
        Y = nn.Lambda(lambda X: X * tf.constant(1.0))(a) if kind == "casts" else a
        Y = nn.Dense(5)(Y)
        if kind == "dropout":
            Y = nn.Identity()(nn.Dropout(0.5)(Y))
        if kind == "two":
            return keras.Model((a, b), {"y": norm(Y), "more": [b + 1]})
        return keras.Model(a, norm(Y))

    keras.config.set_dtype_policy("float32")
    models = {kind: net(kind) for kind in FORWARD}
    predict = lambda model, x: model(x)  # noqa: E731
    return zoo(bn, models, "call", "BatchNormalization", predict)


def in_jax():
    bn = load_or_skip("jax")
    import jax
    from flax import linen as nn

    class Relu(nn.BatchNorm):
        @nn.compact
        def __call__(self, x, use_running_average=None, *, mask=None):
            return nn.relu(super().__call__(x, use_running_average, mask=mask))

    class Like(nn.Module):
        @nn.compact
        def __call__(self, X, use_running_average):
            self.variable("batch_stats", "mean", np.zeros, 5)
            self.variable("batch_stats", "var", np.ones, 5)
            return X

    class Net(nn.Module):
        kind: str

        @nn.compact
        def __call__(self, a, b=None, *, train=False):
            kinds = {"own": Relu, "like": Like}
            norm = kinds.get(self.kind, nn.BatchNorm)(name="norm")
            parts = {
                "dense": nn.Dense(5),
                "drop": nn.Dropout(0.5, deterministic=not train),
                "norm": lambda v: norm(v, use_running_average=not train),
                "last": nn.BatchNorm(use_running_average=not train, name="last"),
                "to_float32": lambda v: jax.lax.add(v, np.zeros(v.shape, "float32")),
            }
            layers = type("Layers", (), {k: staticmethod(v) for k, v in parts.items()})
            return FORWARD[self.kind](layers, *([a] if b is None else [a, b]))

    def bound(kind):
        inputs = (X, X) if kind == "two" else (X,)
        return Net(kind), Net(kind).init(jax.random.key(0), *inputs)

    def replace(m, make, x=None):
        given = X if x is None else x
        return bn.replace_batch_norm(m[0], make, given, (), variables=m[1])

    return Zoo(
        bn,
        {kind: bound(kind) for kind in FORWARD},
        "__call__",
        "BatchNorm",
        {
            "replaced": lambda m, x: bn.replace_batch_norm(
                m[0], bn.BatchNorm, x, variables=m[1]
            ),
            "folded": lambda m, x: bn.fold_batch_norm(m[0], x, m[1]),
            "re-estimated": lambda m, x: (m[0], bn.reestimate(m[0], [x], m[1])),
            "examined": lambda m, x: health(m[0], x, m[1]),
        },
        replace,
        lambda m, x, partial=False: bn.fold_batch_norm(m[0], x, m[1], partial),
        lambda m, batches: (m[0], bn.reestimate(m[0], batches, m[1])),
        lambda m, x: m[0].apply(m[1], *(x if isinstance(x, tuple) else (x,))),
        lambda m, x=X: bn.batch_norms(m[0], x, m[1]),
    )


def in_nnx():
    bn = load_or_skip("jax")
    import jax
    from flax import nnx

    rngs = nnx.Rngs(0)

    class Relu(nnx.BatchNorm):
        def __call__(self, x, use_running_average=None, *, mask=None):
            return nnx.relu(super().__call__(x, use_running_average, mask=mask))

    class Like(nnx.Module):
        def __init__(self):
            self.mean, self.var = nnx.BatchStat(X[0]), nnx.BatchStat(X[0])

        def __call__(self, X):
            return X

    class Net(nnx.Module):
        def __init__(self, kind, norm):
            self.kind, self.dense, self.norm = kind, nnx.Linear(5, 5, rngs=rngs), norm
            self.drop = nnx.Dropout(0.5, rngs=rngs)
            self.last = nnx.BatchNorm(5, rngs=rngs) if kind == "pre" else None

        def __call__(self, a, b=None):
            return FORWARD[self.kind](self, *([a] if b is None else [a, b]))

        def to_float32(self, v):
            return jax.lax.add(v, np.zeros(v.shape, "float32"))

    def net(kind):
        kinds = {"own": lambda: Relu(5, rngs=rngs), "like": Like, "none": lambda: None}
        return Net(kind, kinds.get(kind, lambda: nnx.BatchNorm(5, rngs=rngs))())

    def predict(model, x):
        model.eval()
        return model(*(x if isinstance(x, tuple) else (x,)))

    models = {kind: net(kind) for kind in FORWARD}
    return zoo(bn, models, "__call__", "BatchNorm", predict)


ZOOS = {
    "torch": in_torch,
    "tensorflow": in_tensorflow,
    "jax": in_jax,
    "nnx": in_nnx,
    "mxnet": in_mxnet,
}
