"""`reestimate(model, batches)` of every framework, on a model.  A layer is
frozen, one drops, and one reads what another normalized."""

import numpy as np
import pytest
from conftest import load_or_skip

from bn_from_scratch import spec

EPS = 0.3
rng = np.random.default_rng(0)
BATCHES = [rng.normal(3 + i, 2 + i, (n, 5)) for i, n in enumerate((8, 3, 6))]
X = BATCHES[0]


def layer_makers(bn, norm):
    """What makes a layer of ours, and one of those that are tried."""

    def ours(**options):
        return bn.BatchNorm(5, 2, eps=EPS, dtype="float64", **options)

    def builtin():
        return bn.builtin(5, 2, eps=EPS, dtype="float64")

    return ours, builtin if norm == "builtin" else ours


def in_torch(norm):
    bn = load_or_skip("torch")
    from torch import nn

    ours, make = layer_makers(bn, norm)
    layers = ours(frozen="all"), nn.Dropout(0.5), make(), make()
    model = nn.Sequential(*layers).double()
    return model, bn.reestimate, bn.batch_norms


def in_tensorflow(norm):
    bn = load_or_skip("tensorflow")
    import keras

    ours, make = layer_makers(bn, norm)
    layers = (
        ours(frozen="all"),
        keras.layers.Dropout(0.5, dtype="float64"),
        make(),
        make(),
    )
    model = keras.Sequential([keras.Input((5,), dtype="float64"), *layers])
    return model, bn.reestimate, bn.batch_norms


def in_mxnet(norm):
    bn = load_or_skip("mxnet")
    from mxnet.gluon import nn

    ours, make = layer_makers(bn, norm)
    model = nn.Sequential()
    model.add(ours(frozen="all"), nn.Dropout(0.5), make(), make())
    model.initialize()
    model.cast("float64")
    return model, bn.reestimate, bn.batch_norms


def in_jax(norm):
    bn = load_or_skip("jax")
    import jax
    from flax import linen as nn

    ours, make = layer_makers(bn, norm)

    class Model(nn.Module):
        @nn.compact
        def __call__(self, X, train):
            X = call(ours(frozen="all"), X, train)
            X = nn.Dropout(0.5, deterministic=not train)(X)
            return call(make(), call(make(), X, train), train)

    def call(layer, X, train):
        native = isinstance(layer, nn.BatchNorm)
        mode = {"use_running_average": not train} if native else {"training": train}
        return layer(X, **mode)

    variables = Model().init(jax.random.key(0), X, train=False)

    def reestimate(variables, batches):
        return bn.reestimate(Model(), batches, variables)

    def batch_norms(variables):
        return bn.batch_norms(Model(), X, variables)

    return variables, reestimate, batch_norms


def in_nnx(norm):
    bn = load_or_skip("jax")
    from flax import nnx

    def plain():
        return nnx.BatchNorm(5, epsilon=EPS, param_dtype="float64", rngs=nnx.Rngs(0))

    drop = nnx.Dropout(0.5, rngs=nnx.Rngs(0))
    model = nnx.Sequential(plain(), drop, plain(), plain())
    make = bn.builtin if norm == "builtin" else bn.BatchNorm
    makes = iter([bn.FrozenBatchNorm, make, make])
    model = bn.replace_batch_norm(model, lambda *a, **k: next(makes)(*a, **k))
    return model, bn.reestimate, bn.batch_norms


MODELS = {
    "torch": in_torch,
    "tensorflow": in_tensorflow,
    "mxnet": in_mxnet,
    "jax": in_jax,
    "nnx": in_nnx,
}


def pooled(batches, correction):
    """Mean and variance of all that is in some batches."""
    together = np.concatenate(batches)
    mean, var = spec.batch_stats(together)
    return mean, spec.unbiased(var, len(together), correction)


def normalized(X, eps):
    """X as a new layer answers in training."""
    return (X - X.mean(0)) / np.sqrt(X.var(0) + eps)


@pytest.mark.parametrize("kind", MODELS)
def test_a_model_gets_the_statistics_of_all_batches(kind, norm):
    model, reestimate, batch_norms = MODELS[kind](norm)
    before = list(batch_norms(model).values())
    found = list(batch_norms(reestimate(model, iter(BATCHES))).values())
    again = list(batch_norms(model).values())
    frozen, one, two = found
    assert frozen.settings["frozen"] == "all"
    reads = [X / np.sqrt(1 + EPS) for X in BATCHES]
    then = [normalized(X, EPS) for X in reads]
    for got, expected in ((one, reads), (two, then)):
        mean, var = pooled(expected, got.settings["correction"])
        close = 1e-12 if got.state["moving_var"].dtype == "float64" else 1e-6  # nnx
        np.testing.assert_allclose(got.state["moving_mean"], mean, rtol=0, atol=close)
        np.testing.assert_allclose(got.state["moving_var"], var, rtol=close)
    for old, new, left in zip(before, found, again, strict=True):
        assert old.state.keys() == new.state.keys()
        for name, v in old.state.items():
            kept = new is frozen or not name.startswith("moving")
            assert np.array_equal(new.state[name], v) == kept, (new.name, name)
            assert np.array_equal(left.state[name], v), "the model itself moved"


def test_what_keeps_no_statistics_gets_none():
    bn = load_or_skip("torch")
    from torch import nn

    bare = nn.BatchNorm1d(5, track_running_stats=False)
    model = nn.Sequential(bare, nn.BatchNorm1d(5)).double()
    bare, full = bn.batch_norms(bn.reestimate(model, BATCHES)).values()
    assert bare.state.keys() == {"gamma", "beta"}
    reads = [normalized(X, spec.EPS) for X in BATCHES]
    np.testing.assert_allclose(full.state["moving_var"], pooled(reads, 1)[1])


def test_keras_says_trainable_for_frozen():
    bn = load_or_skip("tensorflow")
    import keras

    make = keras.layers.BatchNormalization
    layers = make(dtype="float64", name="a"), make(dtype="float64", name="b")
    model = keras.Sequential([keras.Input((5,), dtype="float64"), *layers])
    model.layers[0].trainable = False
    a, b = bn.batch_norms(bn.reestimate(model, BATCHES)).values()
    assert not a.state["moving_mean"].any()
    mean, _ = pooled([X / np.sqrt(1 + 1e-3) for X in BATCHES], 0)
    np.testing.assert_allclose(b.state["moving_mean"], mean)
