"""Activation checkpointing: forward runs twice, and a batch counts once."""

import numpy as np
import pytest
from conftest import load_or_skip

X, DY = np.random.default_rng(0).normal(3, 2, (2, 2, 12, 5)).astype("float32")
LIMITS = {"r_max": 1.2, "d_max": 0.3}
MAKE = {
    "core": lambda bn: bn.BatchNorm(5),
    "cumulative": lambda bn: bn.BatchNorm(5, momentum=None),
    "accumulate": lambda bn: bn.AccumBatchNorm(5, steps=2),
    "ghost": lambda bn: bn.GhostBatchNorm(5, ghost_size=4),
    "fused": lambda bn: bn.FusedBatchNorm(5),
    "renorm": lambda bn: bn.BatchRenorm(5, **LIMITS),
    "ghost + renorm": lambda bn: bn.combine("ghost", "renorm")(
        5, ghost_size=4, renorm_momentum=0.3, **LIMITS
    ),
}


def assert_same(got, want):
    assert got.keys() == want.keys()
    for name, value in got.items():
        np.testing.assert_allclose(value, want[name], rtol=1e-6, err_msg=name)


def train_torch(layer, torch, run):
    """Two forward passes, then both backward: gradients and state."""
    leaf = torch.tensor(X, requires_grad=True)
    Y = [run(layer, x) for x in leaf]
    torch.autograd.backward(Y, list(torch.tensor(DY)))
    found = {"dX": leaf.grad, "dgamma": layer.gamma.grad} | layer.state_dict()
    return {name: v.numpy().copy() for name, v in found.items()}


@pytest.mark.parametrize("reentrant", [False, True], ids=["saved", "reentrant"])
@pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)
def test_torch(make, reentrant):
    """The second run sees what the first one saw, whatever has moved since."""
    bn, torch = load_or_skip("torch"), pytest.importorskip("torch")
    from torch.utils.checkpoint import checkpoint

    def again(layer, x):
        return checkpoint(layer, x, use_reentrant=reentrant)

    plain, checkpointed = (
        train_torch(make(bn), torch, run) for run in (lambda f, x: f(x), again)
    )
    assert_same(checkpointed, plain)


def test_torch_within_a_model_and_a_copy():
    """The batch norm's input is recomputed, too; a copy knows no first runs."""
    import copy

    bn, torch = load_or_skip("torch"), pytest.importorskip("torch")
    from torch.utils.checkpoint import checkpoint

    results = []
    for run in (lambda f, x: f(x), lambda f, x: checkpoint(f, x, use_reentrant=False)):
        torch.manual_seed(0)
        layer = bn.BatchRenorm(5, **LIMITS)
        model = torch.nn.Sequential(torch.nn.Linear(5, 5), layer, torch.nn.Tanh())
        run(model, torch.tensor(X[1])).square().sum().backward()
        results.append({k: p.grad.numpy() for k, p in model.named_parameters()})
    assert_same(*results)
    assert not copy.deepcopy(layer).first_runs.runs
    with pytest.raises(ValueError, match=r"^a recomputation of renorm must follow its"):
        copy.deepcopy(layer).first_runs.of(torch.zeros(5))


def train_keras(layer, tf, run, graph):
    leaf = tf.constant(X)

    def step():
        with tf.GradientTape() as tape:
            tape.watch(leaf)
            Y = [run(layer, x) for x in (leaf[0], leaf[1])]
        return tape.gradient(Y, leaf, [tf.constant(dY) for dY in DY])

    layer.build((12, 5))
    found = {"dX": (tf.function(step) if graph else step)()}
    return {"dX": found["dX"].numpy()} | {v.name: v.numpy() for v in layer.variables}


@pytest.mark.parametrize("graph", [False, True], ids=["eager", "graph"])
@pytest.mark.parametrize("name", ["core", "cumulative", "accumulate", "ghost"])
def test_keras(name, graph):
    bn, tf = load_or_skip("tensorflow"), pytest.importorskip("tensorflow")
    training = {"training": True}

    def again(layer, x):
        return tf.recompute_grad(lambda x: layer(x, **training))(x)

    plain, checkpointed = (
        train_keras(MAKE[name](bn), tf, run, graph)
        for run in (lambda layer, x: layer(x, **training), again)
    )
    np.testing.assert_allclose(
        checkpointed.pop("dX"), plain.pop("dX"), rtol=1e-5, atol=1e-7
    )
    for key, value in plain.items():
        np.testing.assert_allclose(checkpointed[key], value, rtol=1e-6)


def test_keras_refuses_what_it_cannot_see_again():
    bn, tf = load_or_skip("tensorflow"), pytest.importorskip("tensorflow")
    layer, x = MAKE["renorm"](bn), tf.constant(X[0])

    def gradient(**options):
        f = tf.recompute_grad(lambda x: layer(x, training=True, **options))
        with tf.GradientTape() as tape:
            tape.watch(x)
            Y = f(x)
        return tape.gradient(Y, x, tf.constant(DY[0]))

    with pytest.raises(ValueError) as caught:
        gradient()
    assert (
        "a recomputation of renorm must see the averages of its first run, which moved "
        "them: give update=False, or keep it out of tf.recompute_grad"
    ) in str(caught.value)
    assert gradient(update=False).shape == (12, 5)


@pytest.mark.parametrize("name", ["accumulate", "renorm"])
def test_flax(name):
    """A pure function is recomputed from what it was given."""
    bn, jax = load_or_skip("jax"), pytest.importorskip("jax")
    from flax import linen as nn

    layer = MAKE[name](bn)
    variables = layer.init(jax.random.key(0), X[0], training=False)
    fields = {
        k: getattr(layer, k) for k in ("steps", "r_max", "d_max") if hasattr(layer, k)
    }
    remat = nn.remat(type(layer), static_argnums=(2,))(5, **fields)

    def plain(variables, x):
        return layer.apply(variables, x, training=True, mutable=["batch_stats"])

    def lifted(variables, x):
        return remat.apply(variables, x, True, mutable=["batch_stats"])

    results = []
    for f in (plain, jax.checkpoint(plain), lifted):

        @jax.jit
        def step(x, f=f):
            Y, backward, moved = jax.vjp(lambda x: f(variables, x), x, has_aux=True)
            return Y, backward(jax.numpy.asarray(DY[0]))[0], moved["batch_stats"]

        Y, dX, stats = step(X[0])
        results.append({"Y": Y, "dX": dX} | dict(stats))
    for found in results[1:]:
        for key, value in results[0].items():
            np.testing.assert_allclose(found[key], value, rtol=1e-5, atol=1e-6)
