"""What only JAX has: collections, init, clones, jit, optax, float64 by choice."""

import inspect
import os
import subprocess
import sys
from functools import partial

import numpy as np
import pytest
from conftest import load_or_skip
from tolerances import TOLERANCE

bn = load_or_skip("jax")
jax = pytest.importorskip("jax")
nn = pytest.importorskip("flax.linen")
optax = pytest.importorskip("optax")
jnp = jax.numpy
MOVING = ("moving_mean", "moving_var")
X = np.random.default_rng(0).normal(3, 2, (9, 5)).astype("float32")


def start(layer):
    return layer.init(jax.random.key(0), X, training=True)


def train(layer, variables, X=X, **options):
    """One training call: Y, and the variables after it."""
    options |= {"training": True, "mutable": ["batch_stats"]}
    Y, moved = layer.apply(variables, X, **options)
    return Y, variables | moved


def test_state_lives_in_two_collections():
    shapes = jax.tree.map(jnp.shape, start(bn.BatchNorm(5, 2)))
    assert shapes == {
        "params": {"gamma": (5,), "beta": (5,)},
        "batch_stats": {"moving_mean": (5,), "moving_var": (5,)},
    }


def test_init_is_no_training_step():
    stats = start(bn.BatchNorm(5, 2))["batch_stats"]
    np.testing.assert_array_equal(stats["moving_mean"], np.zeros(5))
    np.testing.assert_array_equal(stats["moving_var"], np.ones(5))


def test_training_under_jit_returns_the_moved_statistics():
    layer = bn.BatchNorm(5, 2)

    @jax.jit
    def step(variables, X):
        return layer.apply(variables, X, training=True, mutable=["batch_stats"])

    _, moved = step(start(layer), X)
    moving_mean = moved["batch_stats"]["moving_mean"]
    np.testing.assert_allclose(moving_mean, 0.1 * X.mean(0), rtol=1e-5)


def test_the_moved_statistics_carry_no_gradient():
    one, zero = jnp.ones(5), jnp.zeros(5)

    def moved(X):
        _, mean, var = bn.batch_norm(X, one, zero, zero, one, training=True)
        return (mean + var).sum()

    np.testing.assert_array_equal(jax.grad(moved)(X), np.zeros_like(X))


def test_state_survives_a_file(tmp_path):
    from flax import serialization

    layer = bn.BatchNorm(5, 2)
    variables = start(layer)
    _, moved = layer.apply(variables, X, training=True, mutable=["batch_stats"])
    variables = variables | moved
    (tmp_path / "layer.msgpack").write_bytes(serialization.to_bytes(variables))
    content = (tmp_path / "layer.msgpack").read_bytes()
    restored = serialization.from_bytes(start(layer), content)
    np.testing.assert_array_equal(
        layer.apply(restored, X, training=False),
        layer.apply(variables, X, training=False),
    )


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_16_bit_input(dtype):
    layer, half = bn.BatchNorm(5, 2), jnp.asarray(100 * X, dtype)
    options = {"training": True, "mutable": ["batch_stats"]}
    Y, _ = layer.apply(start(layer), half, **options)
    want, _ = layer.apply(start(layer), half.astype("float32"), **options)
    assert Y.dtype == dtype
    difference = jnp.abs(Y.astype("float32") - want).max() / jnp.abs(want).max()
    assert difference <= TOLERANCE[dtype]


def test_float64_without_x64_is_an_error():
    code = """
from bn_from_scratch import jax as bn
try:
    bn.Trainer().prepare(bn.BNLeNet(dtype="float64"))
except ValueError as error:
    print(error)
"""
    environment = {k: v for k, v in os.environ.items() if k != "JAX_ENABLE_X64"}
    answer = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert answer.stdout == (
        "a float64 model came out as float32: "
        "jax.config.update('jax_enable_x64', True) before it is made\n"
    )


# --- State: who changes it, and when -------------------------------------------------


def test_training_without_mutable_statistics_is_refused():
    layer = bn.BatchNorm(5)
    with pytest.raises(ValueError) as caught:
        layer.apply(start(layer), X, training=True)
    assert str(caught.value) == (
        'training moves the statistics: give apply mutable=["batch_stats"], '
        "or the layer update=False"
    )


def test_a_call_without_update_needs_no_mutable_statistics():
    layer = bn.BatchNorm(5)
    variables = start(layer)
    Y = layer.apply(variables, X, training=True, update=False)
    np.testing.assert_array_equal(Y, train(layer, variables)[0])


def test_checkpointing_moves_the_averages_once():
    """The forward runs again for the backward; both return the same statistics."""
    layer = bn.BatchNorm(5)
    params, stats = start(layer).values()

    def loss(forward, params):
        Y, moved = forward(params, X)
        return (Y**2 * Y).sum(), moved["batch_stats"]

    def forward(params, X):
        variables = {"params": params, "batch_stats": stats}
        return layer.apply(variables, X, training=True, mutable=["batch_stats"])

    results = [
        jax.value_and_grad(loss, argnums=1, has_aux=True)(f, params)
        for f in (forward, jax.checkpoint(forward))
    ]
    (_, moved), _ = results[1]
    np.testing.assert_allclose(moved["moving_mean"], 0.1 * X.mean(0), rtol=1e-5)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-6), *results)


def test_a_rematerialized_layer_moves_the_averages_once():
    class Model(nn.Module):
        @nn.compact
        def __call__(self, X, training):
            layer = nn.remat(bn.BatchNorm, static_argnums=(2,))
            return layer(5, name="bn")(X, training)

    model = Model()
    variables = start(model)

    def loss(params, X):
        Y, after = train(model, variables | {"params": params}, X)
        return (Y**2).sum(), after["batch_stats"]["bn"]

    moved = jax.grad(loss, has_aux=True)(variables["params"], X)[1]
    np.testing.assert_allclose(moved["moving_mean"], 0.1 * X.mean(0), rtol=1e-5)


@pytest.mark.parametrize("frozen", [None, "affine", "all"])
def test_the_states_of_a_layer_in_a_model(frozen):
    """What the model is told, training, does not undo them; a clone switches."""

    class Model(nn.Module):
        norm: nn.Module

        def __call__(self, X, training):
            return self.norm(X, training)

    free = Model(bn.BatchNorm(5))
    model = free.clone(norm=bn.BatchNorm(5).clone(frozen=frozen))
    variables = train(free, start(free))[1]

    def loss(params):
        Y, after = train(model, variables | {"params": params})
        return (Y**3).sum(), (Y, after)

    gradients, (Y, after) = jax.grad(loss, has_aux=True)(variables["params"])
    for gradient in jax.tree.leaves(gradients):
        assert np.any(gradient) == (frozen is None)
    for name in MOVING:
        before, now = (v["batch_stats"]["norm"][name] for v in (variables, after))
        assert np.all(before == now) == (frozen == "all")
    prediction = free.apply(variables, X, training=False)
    assert np.array_equal(Y, prediction) == (frozen == "all")


def test_a_frozen_layer_needs_no_mutable_statistics():
    for layer in (bn.BatchNorm(5, frozen="all"), bn.FrozenBatchNorm(5)):
        variables = start(layer)
        Y = layer.apply(variables, X, training=True)
        np.testing.assert_array_equal(Y, layer.apply(variables, X, training=False))
    with pytest.raises(TypeError, match="frozen"):
        bn.FrozenBatchNorm(5, frozen=None)


def test_a_clone_switches_the_transform_on_and_off():
    layer = bn.TransformedBatchNorm(
        5, transform=lambda gamma, beta, mean, var: (gamma / 2, beta - 1, mean, var)
    )
    variables = start(layer)
    Y, plain = (
        train(now, variables)[0] for now in (layer, layer.clone(transformed=False))
    )
    np.testing.assert_allclose(Y, plain / 2 - 1, atol=1e-6)
    np.testing.assert_array_equal(plain, train(bn.BatchNorm(5), variables)[0])


def test_statistics_move_under_jit_with_traced_masks_and_counts():
    """momentum=None: the statistics of all valid values so far."""
    layer, masks = bn.BatchNorm(5, momentum=None), np.arange(9) < [[6], [3], [1]]
    variables = start(layer)
    step = jax.jit(lambda variables, mask: train(layer, variables, X, mask=mask)[1])
    for mask in masks:  # the last has too few values to count
        variables = step(variables, mask)
    stats, seen = variables["batch_stats"], np.concatenate([X[:6], X[:3]])
    assert stats["moving_count"] == 9
    np.testing.assert_allclose(stats["moving_mean"], seen.mean(0), rtol=1e-5)
    np.testing.assert_allclose(stats["moving_var"], seen.var(0), rtol=1e-5)


def test_accumulation_goes_on_from_a_file(tmp_path):
    from flax import serialization

    layer = bn.AccumBatchNorm(5, steps=2)
    _, half = train(layer, start(layer), X[:4])
    restored = serialization.from_bytes(start(layer), serialization.to_bytes(half))
    stats = train(layer, restored, X[4:])[1]["batch_stats"]
    np.testing.assert_array_equal(half["batch_stats"]["moving_mean"], np.zeros(5))
    core = bn.BatchNorm(5)
    want = train(core, start(core))[1]["batch_stats"]
    for name in MOVING:
        np.testing.assert_allclose(stats[name], want[name], rtol=1e-5)


def test_an_empty_micro_batch_counts_as_a_step_without_values():
    layer = bn.AccumBatchNorm(5, steps=2)
    _, variables = train(layer, start(layer), X[:0])
    stats = train(layer, variables)[1]["batch_stats"]
    np.testing.assert_allclose(stats["moving_mean"], 0.1 * X.mean(0), rtol=1e-5)
    np.testing.assert_allclose(stats["moving_var"], 0.9 + 0.1 * X.var(0), rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("BatchNorm", {}),
        ("BatchNorm", {"momentum": None}),
        ("GhostBatchNorm", {"ghost_size": 3}),
        ("BatchRenorm", {"renorm_momentum": 0.1}),
        ("AccumBatchNorm", {"steps": 2}),
        ("FusedBatchNorm", {}),
    ],
)
def test_moved_statistics_keep_their_dtype_and_carry_no_gradient(name, options):
    """float64 through a float32 layer: or jax.lax.scan would not take them."""
    layer = getattr(bn, name)(5, **options)
    variables = start(layer)

    def moved(X):
        stats = train(layer, variables, X)[1]["batch_stats"]
        return sum(v.sum() for v in jax.tree.leaves(stats)), stats

    gradient, stats = jax.grad(moved, has_aux=True)(X.astype("float64"))
    np.testing.assert_array_equal(gradient, np.zeros_like(X))
    assert {v.dtype.name for v in jax.tree.leaves(stats)} == {"float32"}


# --- Settings ------------------------------------------------------------------------


def test_a_layer_without_sizes_takes_those_that_init_saw():
    layer = bn.BatchNorm(center=False, scale=False)
    variables = start(layer)
    assert jax.tree.map(jnp.shape, variables) == {
        "batch_stats": {"moving_mean": (5,), "moving_var": (5,)}
    }
    with pytest.raises(ValueError) as caught:
        layer.apply(variables, X[:, :3], training=False)
    assert str(caught.value) == "expected 5 channels on axis 1; X has shape (9, 3)"


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_parameters_are_float32_at_least(dtype):
    variables = start(bn.AccumBatchNorm(5, steps=2, momentum=None, dtype=dtype))
    wanted = "float64" if dtype == "float64" else "float32"
    assert {v.dtype.name for v in jax.tree.leaves(variables)} == {wanted}


def test_initializers_may_be_those_of_flax():
    names = "gamma", "beta", *MOVING
    normal = nn.initializers.normal(1.0)
    layer = bn.BatchNorm(5, **{f"{name}_initializer": normal for name in names})
    variables = start(layer)
    values = variables["params"] | variables["batch_stats"]
    drawn = np.array([values[name] for name in names])
    assert len(np.unique(drawn)) == drawn.size == 20


def test_a_parameter_may_be_partitioned():
    """Flax boxes it with the name of the mesh axis."""
    ones = nn.with_partitioning(nn.initializers.ones, ("model",))
    layer = bn.BatchNorm(5, gamma_initializer=ones)
    variables = start(layer)
    assert variables["params"]["gamma"].names == ("model",)
    want = train(bn.BatchNorm(5), nn.unbox(variables))[0]
    np.testing.assert_array_equal(train(layer, variables)[0], want)


def test_one_example_is_enough_to_initialize():
    """Whatever prediction does: init sees dummy data."""
    layer = bn.BatchNorm(5, statistics="batch")
    variables = layer.init(jax.random.key(0), X[:1], training=False)
    with pytest.raises(ValueError, match="more than one value per channel"):
        layer.apply(variables, X[:1], training=False)


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("GhostBatchNorm", "ghost_size"),
        ("AdjustedBatchNorm", "adjustment"),
        ("AccumBatchNorm", "steps"),
        ("TransformedBatchNorm", "transform"),
    ],
)
def test_a_variant_wants_its_setting(name, field):
    with pytest.raises(TypeError, match=f"keyword-only argument: '{field}'"):
        getattr(bn, name)(5)
    with pytest.raises(TypeError, match="positional arguments"):
        bn.BatchNorm(5, 2, 1e-5, 0.1, "float32", -1)


def test_a_random_adjustment_draws_from_its_stream():
    def noise(key, shape):
        scale, shift = jax.random.normal(key, (2, *shape))
        return 1 + 0.1 * scale, 0.1 * shift

    layer = bn.AdjustedBatchNorm(5, adjustment=noise)
    variables = start(layer)
    once, again, other = (
        train(layer, variables, rngs={"adjustment": jax.random.key(seed)})[0]
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(once, again)
    assert not np.any(once == other)
    core = layer.apply(variables, X, training=False)
    np.testing.assert_array_equal(core, bn.BatchNorm(5).apply(variables, X, False))


def test_a_network_takes_any_variant():
    norms = (
        partial(bn.BatchNorm, center=False, scale=False),
        partial(bn.AccumBatchNorm, steps=2),
        bn.LayerNorm,
    )
    for norm in norms:
        trainer = bn.Trainer(progress=False)
        trainer.prepare(bn.LeNet(norm))
        trainer.train_step(np.ones((4, 1, 28, 28), "float32"), np.arange(4))
        names = {name for name in trainer.get_weights() if name.startswith("bn1.")}
        assert ("bn1.moving_mean" in names) == (norm is not bn.LayerNorm)
        assert ("bn1.gamma" in names) == (norm is not norms[0])


# --- optax: what torch calls parameter groups ----------------------------------------


def is_norm(params):
    """A mask for optax: which leaves are gamma and beta, by their names."""
    return jax.tree_util.tree_map_with_path(
        lambda path, v: path[-1].key in ("gamma", "beta"), params
    )


def step_of(optimizer, params):
    """The parameters after one step along gradients of 1."""
    ones = jax.tree.map(jnp.ones_like, params)
    updates, _ = optimizer.update(ones, optimizer.init(params), params)
    return optax.apply_updates(params, updates)


def params_of_a_model():
    class Model(nn.Module):
        @nn.compact
        def __call__(self, X, training):
            return bn.BatchNorm(5)(nn.Dense(5)(X), training)

    return start(Model())["params"]


def test_optax_decays_all_but_the_norm_parameters():
    params = params_of_a_model()
    decay = optax.add_decayed_weights(
        0.5, mask=lambda params: jax.tree.map(lambda norm: not norm, is_norm(params))
    )
    after = step_of(optax.chain(optax.set_to_zero(), decay), params)
    assert_moved(params, after, "kernel")


def test_optax_freezes_the_norm_parameters():
    """By a mask, or by one optimizer for each label."""
    params = params_of_a_model()
    labels = jax.tree.map(lambda norm: "norm" if norm else "rest", is_norm(params))
    for optimizer in (
        optax.chain(optax.sgd(0.1), optax.masked(optax.set_to_zero(), is_norm)),
        optax.multi_transform(
            {"norm": optax.set_to_zero(), "rest": optax.sgd(0.1)}, labels
        ),
    ):
        assert_moved(params, step_of(optimizer, params), "kernel", "bias")


def assert_moved(before, after, *names):
    moved = jax.tree.map(lambda a, b: bool(np.any(a != b)), before, after)
    leaves = jax.tree_util.tree_leaves_with_path(moved)
    assert {path[-1].key for path, changed in leaves if changed} == set(names)
    assert {"gamma", "beta", *names} <= {path[-1].key for path, _ in leaves}


class Halved(bn.BatchNorm):
    half: bool = True


@pytest.mark.parametrize(
    ("cls", "own"),
    [
        (bn.BatchNorm, {"frozen"}),
        (bn.FrozenBatchNorm, set()),
        (bn.combine("sync", "renorm"), {"axis_name", "r_max"}),
        (Halved, {"half"}),
    ],
)
def test_a_layer_shows_what_a_user_gives(cls, own):
    """Flax fills in `parent`; what a subclass adds is given by name."""
    parameters = inspect.signature(cls).parameters
    by_place = [k for k, p in parameters.items() if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert by_place == ["num_features", "num_dims", "eps", "momentum", "dtype"]
    assert parameters.keys() >= {"name", *own} and "parent" not in parameters
    with pytest.raises(TypeError):
        cls(4, 2, 1e-5, 0.1, "float32", None)
