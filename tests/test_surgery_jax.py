"""Model surgery in Flax: what a model answers stays, and so does its state."""

import re
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import SLIGHTLY, load_or_skip
from hypothesis import given
from hypothesis import strategies as st
from properties import tried

bn = load_or_skip("jax")

from flax import linen as nn  # noqa: E402
from flax import nnx  # noqa: E402
from resnet_flax import ResNet  # noqa: E402

from bn_from_scratch import spec  # noqa: E402
from bn_from_scratch.backends.jax.models import (  # noqa: E402
    nnx_surgery,
    reestimation,
)
from bn_from_scratch.backends.jax.models.exact import enable_x64  # noqa: E402
from bn_from_scratch.checks import tuple_of  # noqa: E402
from bn_from_scratch.health import health  # noqa: E402
from bn_from_scratch.surgery import proof  # noqa: E402

rng = np.random.default_rng(0)
images = jnp.asarray(rng.normal(3, 2, (4, 12, 10, 3)))
columns = jnp.asarray(rng.normal(3, 2, (8, 5)))
KEY = jax.random.key(0)
norm = partial(bn.builtin, None, None, dtype="float64")


RESNET_18 = pytest.param((2, 2, 2, 2), marks=pytest.mark.slow)
resnets = pytest.mark.parametrize("stages", [(1, 1), RESNET_18])


def randomized(variables):
    """Variables as training leaves them: no gamma is 1, no moving mean 0."""

    def value(path, v):
        positive = path[-1].key in ("scale", "var", "gamma", "moving_var")
        made = rng.uniform(0.5, 2, v.shape) if positive else rng.normal(0, 0.5, v.shape)
        return jnp.asarray(made, v.dtype)

    return jax.tree_util.tree_map_with_path(value, variables)


def initialized(model, X, **mode):
    return randomized(model.init(KEY, X, **mode))


def equal(tree, other):
    assert jax.tree.structure(tree) == jax.tree.structure(other)
    jax.tree.map(np.testing.assert_array_equal, tree, other)


def predicted(model, variables, X):
    return model.apply(variables, X, train=False)


class Net(nn.Module):
    """A linear layer, a batch norm and another layer."""

    linear: nn.Module
    norm: nn.Module

    @nn.compact
    def __call__(self, X, train):
        return nn.Dense(2, param_dtype="float64")(
            jnp.tanh(self.bn(self.linear(X), train))
        )

    def bn(self, X, train):
        if isinstance(self.norm, nn.BatchNorm):
            return self.norm(X, use_running_average=not train)
        return self.norm(X, train)


def net(made=None, linear=None):
    linear = nn.Dense(6, param_dtype="float64") if linear is None else linear
    return Net(linear, norm() if made is None else made)


# --- Which there are ----------------------------------------------------------------


def test_a_batch_norm_in_the_words_of_the_spec():
    model = net(norm(eps=0.3, momentum=0.2, center=False))
    variables = initialized(model, columns, train=False)
    [(path, found)] = bn.batch_norms(model, columns, variables).items()
    assert path == found.name == "norm"
    assert (found.kind, found.native) == ("BatchNorm", True)
    assert (found.num_features, found.num_dims) == (6, 2)
    assert found.settings == {
        "eps": 0.3,
        "momentum": pytest.approx(0.2),
        "dtype": "float64",
        "axis": -1,
        "center": False,
        "scale": True,
        "correction": 0,
        "statistics": "moving",
        "frozen": None,
    }
    assert found.trainable == {"gamma": True}
    assert set(found.state) == {"gamma", "moving_mean", "moving_var"}
    np.testing.assert_array_equal(
        found.state["gamma"], variables["params"]["norm"]["scale"]
    )


def test_ours_is_described_by_its_own_settings():
    layer = bn.GhostBatchNorm(
        dtype="float64", momentum=None, correction=1, frozen="affine", ghost_size=2
    )
    [found] = bn.batch_norms(net(layer), columns).values()
    assert (found.kind, found.native, found.num_dims) == ("GhostBatchNorm", False, None)
    own = {"momentum": None, "correction": 1, "frozen": "affine"}
    assert found.settings.items() >= own.items()
    assert found.trainable == {"gamma": False, "beta": False}
    assert found.state == {}  # without variables


def test_a_resnet_has_twenty():
    found = bn.batch_norms(ResNet((2, 2, 2, 2), 4, "float64"), images)
    assert len(found) == 20
    assert list(found)[:2] == ["bn1", "layer1_0.BatchNorm_0"]
    assert "layer2_0.shortcut_norm" in found


# --- Replace ------------------------------------------------------------------------


def test_lenet_there_and_back():
    X = jnp.asarray(rng.normal(size=(4, 28, 28, 1)))
    model = bn.BNLeNet(bn.builtin, dtype="float64")
    variables = initialized(model, X, training=False)
    kept = jax.tree.map(np.array, variables)
    ours, written = bn.replace_batch_norm(model, bn.BatchNorm, X, variables=variables)
    assert all(not d.native for d in bn.batch_norms(ours, X, written).values())
    assert set(written["params"]["bn1"]) == {"gamma", "beta"}
    back, again = bn.replace_batch_norm(ours, bn.builtin, X, variables=written)
    equal(again, variables)
    equal(variables, kept)
    before = model.apply(variables, X, training=False)
    np.testing.assert_array_equal(back.apply(again, X, training=False), before)


@resnets
def test_a_resnet_there_and_back(stages):
    model = ResNet(stages, 4, "float64")
    variables = initialized(model, images)
    ours, written = bn.replace_batch_norm(
        model, bn.BatchNorm, images, variables=variables
    )
    found = bn.batch_norms(ours, images, written)
    assert not any(d.native for d in found.values())
    for path, before in bn.batch_norms(model, images, variables).items():
        equal(found[path].state, before.state)
        assert found[path].settings == before.settings
    _, again = bn.replace_batch_norm(ours, bn.builtin, images, variables=written)
    equal(again, variables)


@resnets
def test_training_moves_the_statistics_as_before(stages):
    model = ResNet(stages, 4, "float64")
    variables = initialized(model, images)
    ours, written = bn.replace_batch_norm(
        model, bn.BatchNorm, images, variables=variables
    )
    _, moved = model.apply(variables, images, mutable=["batch_stats"])
    _, ours_moved = ours.apply(written, images, mutable=["batch_stats"])
    before = bn.batch_norms(model, images, variables | moved)
    after = bn.batch_norms(ours, images, written | ours_moved)
    for path in before:
        for name, value in before[path].state.items():
            np.testing.assert_allclose(after[path].state[name], value, rtol=1e-10)


class Casting(nn.Module):
    """A module whose layers cast to a dtype, those it is given and those it makes."""

    linear: nn.Module
    dtype: str

    @nn.compact
    def __call__(self, X, train):
        Y = nn.tanh(nn.BatchNorm(not train, dtype=self.dtype)(self.linear(X)))
        Y = nn.Dense(6, dtype=self.dtype, param_dtype=self.dtype)(Y)
        Y = nn.Dropout(0.2, deterministic=not train)(Y)
        return nn.BatchNorm(not train, dtype=self.dtype, name="last")(Y)


def casting(dtype):
    """A module, its variables and its X, made where JAX has no float64."""
    model = Casting(nn.Dense(6, dtype=dtype), dtype)
    with enable_x64(False):
        X = jnp.asarray(rng.normal(3, 2, (8, 5)), "float32")
        return model, initialized(model, X, train=False), X


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_every_dtype_is_proven_in_float64(dtype, differences):
    model, variables, X = casting(dtype)
    with enable_x64(False):
        made = bn.replace_batch_norm(model, bn.BatchNorm, X, variables=variables)
        folded = bn.fold_batch_norm(model, X, variables)
        for new, written in (made, folded):
            dtypes = {v.dtype.name for v in jax.tree.leaves(written)}
            assert dtypes == {"float32", dtype}
            assert predicted(new, written, X).dtype == dtype
    assert len(differences) == 3 and max(differences) < 1e-13
    assert model.dtype == model.linear.dtype == dtype


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_small_difference_is_refused(dtype, slightly_wrong):
    model, variables, X = casting(dtype)
    for surgery in slightly_wrong(bn):
        with enable_x64(False), pytest.raises(ValueError, match=SLIGHTLY):
            surgery(model, X, variables=variables)
    assert model.linear.dtype == dtype


def test_a_module_without_variables():
    """`init` starts as the old module does: with its initializers, under our names."""
    model = ResNet((1, 1), 4, "float64")
    ours, none = bn.replace_batch_norm(model, bn.BatchNorm, images)
    assert none is None
    made = ours.init(KEY, images)
    own = made["params"]["layer1_0"]
    np.testing.assert_array_equal(own["BatchNorm_1"]["gamma"], np.zeros(4))
    np.testing.assert_array_equal(own["BatchNorm_0"]["gamma"], np.ones(4))
    theirs = model.init(KEY, images)
    equal(own["Conv_1"], theirs["params"]["layer1_0"]["Conv_1"])
    without_proof, _ = bn.replace_batch_norm(model, bn.BatchNorm)
    equal(without_proof.init(KEY, images), made)


def test_it_trains_under_jit_and_grad():
    model = net()
    variables = initialized(model, columns, train=False)
    ours, written = bn.replace_batch_norm(
        model, bn.BatchNorm, columns, variables=variables
    )
    dY = jnp.asarray(rng.normal(size=(8, 2)))

    def gradient(model, variables):
        def loss(params):
            Y, moved = model.apply(
                variables | {"params": params}, columns, True, mutable=["batch_stats"]
            )
            return (Y * dY).sum(), moved

        return jax.jit(jax.grad(loss, has_aux=True))(variables["params"])

    (theirs, moved), (got, got_moved) = (
        gradient(model, variables),
        gradient(ours, written),
    )
    np.testing.assert_allclose(
        got["linear"]["kernel"], theirs["linear"]["kernel"], atol=1e-12
    )
    np.testing.assert_allclose(
        got["norm"]["gamma"], theirs["norm"]["scale"], atol=1e-12
    )
    theirs, ours = moved["batch_stats"]["norm"], got_moved["batch_stats"]["norm"]
    np.testing.assert_allclose(ours["moving_var"], theirs["var"], rtol=1e-12)


def test_it_trains_in_the_trainer(garments):
    model = bn.BNLeNet(bn.builtin, dtype="float64")
    ours, _ = bn.replace_batch_norm(model, bn.BatchNorm)
    data = garments.take(train=64, test=32)
    losses = [
        bn.Trainer(max_epochs=1, batch_size=32).fit(m, data) for m in (model, ours)
    ]
    assert losses[0].loss == pytest.approx(losses[1].loss, rel=1e-10)


def test_a_variant_predicts_alike():
    model, ghost = net(), partial(bn.GhostBatchNorm, ghost_size=2)
    variables = initialized(model, columns, train=False)
    make = partial(bn.replace_batch_norm, model, ghost, columns, variables=variables)
    ours, written = make(modes=["prediction"])
    [found] = bn.batch_norms(ours, columns, written).values()
    assert found.kind == "GhostBatchNorm"
    with pytest.raises(ValueError, match="the model's output in training would change"):
        make()


def test_what_a_variant_counts_beside_is_made():
    model = net()
    variables = initialized(model, columns, train=False)
    options = {"modes": ["prediction"], "variables": variables}
    ours, written = bn.replace_batch_norm(model, bn.BatchRenorm, columns, **options)
    assert written["batch_stats"]["norm"]["num_updates"] == 0
    options["variables"] = written
    _, again = bn.replace_batch_norm(ours, bn.builtin, columns, **options)
    equal(again, variables)


def test_a_frozen_batch_norm():
    model = net()
    variables = initialized(model, columns, train=False)
    options = {"modes": ["prediction"], "variables": variables}
    ours, written = bn.replace_batch_norm(model, bn.FrozenBatchNorm, columns, **options)
    before = predicted(ours, written, columns)
    np.testing.assert_array_equal(ours.apply(written, columns, True), before)


class Pooled(nn.Module):
    """A batch norm that takes its statistics over the replicas."""

    @nn.compact
    def __call__(self, X, train):
        return norm(axis_name="replicas")(X, use_running_average=not train)


def test_replicas_are_kept():
    variables = initialized(Pooled(), columns, train=False)
    options = {"variables": variables, "modes": ["prediction"]}
    ours, written = bn.replace_batch_norm(
        Pooled(), bn.SyncBatchNorm, columns, **options
    )

    def run(model, variables):
        step = partial(model.apply, variables, train=True, mutable=["batch_stats"])
        return jax.vmap(step, axis_name="replicas")(columns.reshape(2, 4, 5))[0]

    np.testing.assert_allclose(run(ours, written), run(Pooled(), variables), rtol=1e-10)
    with pytest.raises(TypeError, match=r"BatchNorm_0 cannot be replaced: .*axis_name"):
        bn.replace_batch_norm(Pooled(), bn.BatchNorm, columns, **options)


class Masked(nn.Module):
    @nn.compact
    def __call__(self, X, mask, train):
        return norm(name="bn")(X, use_running_average=not train, mask=mask)


def test_the_mask_of_a_call():
    X = jnp.asarray(rng.normal(size=(4, 3, 5)))
    mask = jnp.asarray(rng.random((4, 1, 1)) < 0.6).at[0].set(True)
    variables = initialized(Masked(), X, mask=mask, train=False)
    options = {"X": (X, mask), "variables": variables}
    ours, written = bn.replace_batch_norm(Masked(), bn.BatchNorm, **options)
    bn.replace_batch_norm(ours, bn.builtin, (X, mask), variables=written)


class Shared(nn.Module):
    """One batch norm for two inputs."""

    @nn.compact
    def __call__(self, X, train):
        bn1 = norm(name="bn1", use_running_average=not train)
        return bn1(X) + bn1(jnp.sin(3 * X))


def test_a_shared_batch_norm_stays_shared():
    variables = initialized(Shared(), columns, train=False)
    made = bn.replace_batch_norm(Shared(), bn.BatchNorm, columns, variables=variables)
    assert list(made[1]["params"]) == ["bn1"]
    assert list(bn.batch_norms(*made[:1], columns)) == ["bn1"]


def test_the_dtype_of_the_answer():
    """Flax's layer answers in float32 where its parameters are; ours as X is."""
    X = columns.astype("bfloat16")
    layer = bn.builtin(5, 2, dtype="float32", name="bn")
    model = nn.Sequential([layer.clone(use_running_average=True)])
    variables = initialized(model, X)
    ours, written = bn.replace_batch_norm(model, bn.BatchNorm, X, variables=variables)
    assert ours.apply(written, X).dtype == model.apply(variables, X).dtype == "float32"


def test_a_field_of_a_subclass_is_no_behaviour():
    class Zeros(nn.BatchNorm):
        scale_init: Any = nn.initializers.zeros

    [found] = bn.batch_norms(net(Zeros(param_dtype="float64")), columns).values()
    assert (found.kind, found.peculiarity) == ("Zeros", None)


def test_another_axis():
    layer = norm(axis=1, use_running_average=True)
    model = nn.Sequential([layer])
    variables = initialized(model, images)
    ours, written = bn.replace_batch_norm(
        model, bn.BatchNorm, images, variables=variables
    )
    bn.replace_batch_norm(ours, bn.builtin, images, variables=written)
    several = nn.Sequential([norm(axis=(1, -1), use_running_average=True)])
    variables = initialized(several, images)
    bn.replace_batch_norm(several, bn.BatchNorm, images, variables=variables)


# --- What is refused ----------------------------------------------------------------


def test_another_eps_is_refused():
    model = net()
    variables = initialized(model, columns, train=False)
    make = lambda C, D, **kwargs: bn.BatchNorm(C, D, **(kwargs | {"eps": 1e-2}))  # noqa: E731
    with pytest.raises(
        ValueError, match="the model's output in prediction would change"
    ):
        bn.replace_batch_norm(model, make, columns, variables=variables)


def test_a_lost_gamma_is_refused():
    model = net()
    variables = initialized(model, columns, train=False)
    make = lambda C, D, **kwargs: bn.BatchNorm(C, D, **(kwargs | {"scale": False}))  # noqa: E731
    message = (
        "norm cannot be replaced: the new layer must keep its gamma; "
        "BatchNorm has beta, moving_mean, moving_var"
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        bn.replace_batch_norm(model, make, columns, variables=variables)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"momentum": None}, "Flax's layer needs a momentum; got None"),
        (
            {"statistics": "batch"},
            "Flax's layer predicts by moving statistics; got statistics='batch'",
        ),
        ({"frozen": "affine"}, "Flax's layer cannot be frozen; got frozen='affine'"),
    ],
)
def test_what_the_builtin_cannot_say(setting, message):
    model = net(bn.BatchNorm(dtype="float64", **setting))
    with pytest.raises(ValueError, match=f"^norm cannot be replaced: {message}$"):
        bn.replace_batch_norm(model, bn.builtin, columns)


class Plain(nn.Module):
    @nn.compact
    def __call__(self, X):
        return nn.Dense(2)(X)


NONE = "^the model must have a batch norm; it has none"


def test_a_model_without_any():
    variables = Plain().init(KEY, columns)
    assert bn.batch_norms(Plain(), columns) == {}
    with pytest.raises(ValueError, match=NONE):
        bn.replace_batch_norm(Plain(), bn.BatchNorm, columns)
    with pytest.raises(ValueError, match=NONE):
        bn.fold_batch_norm(Plain(), columns, variables)
    unproven, _ = bn.replace_batch_norm(Plain(), bn.BatchNorm)
    with pytest.raises(ValueError, match=NONE):
        unproven.init(KEY, columns)


def test_a_trace_needs_an_input():
    message = "a linen module must be traced to find its layers; X is None"
    with pytest.raises(ValueError, match=f"^{message}$"):
        bn.batch_norms(net())
    message = "variables are found by tracing the module; X is None"
    with pytest.raises(ValueError, match=f"^{message}$"):
        bn.replace_batch_norm(net(), bn.BatchNorm, variables={})


def test_a_linen_module_needs_its_variables():
    message = "a linen module has its variables beside it; variables is None"
    with pytest.raises(ValueError, match=f"^{message}$"):
        bn.fold_batch_norm(net(), columns)
    with pytest.raises(ValueError, match=f"^{message}$"):
        bn.reestimate(net(), [columns])
    with pytest.raises(ValueError, match=f"^{message}$"):
        reestimation.run_in_training(net(), columns)


# --- Fold ---------------------------------------------------------------------------

float64 = {"param_dtype": "float64"}
LINEAR = {
    "dense": lambda: nn.Dense(6, **float64),
    "no bias": lambda: nn.Dense(6, use_bias=False, **float64),
    "conv": lambda: nn.Conv(6, (3, 3), **float64),
    "groups": lambda: nn.Conv(6, (3, 3), feature_group_count=3, **float64),
    "conv, no bias": lambda: nn.Conv(6, (3, 3), use_bias=False, **float64),
    "transposed": lambda: nn.ConvTranspose(6, (3, 3), (2, 2), **float64),
    "kernel transposed": lambda: nn.ConvTranspose(
        6, (3, 3), transpose_kernel=True, **float64
    ),
}


@pytest.mark.parametrize("kind", LINEAR)
@pytest.mark.parametrize("ours", [False, True])
def test_each_linear_layer_takes_one_in(kind, ours):
    made = bn.BatchNorm(dtype="float64", eps=0.3) if ours else norm(eps=0.3)
    model = net(made, LINEAR[kind]())
    variables = initialized(model, images, train=False)
    folded, written = bn.fold_batch_norm(model, images, variables)
    assert set(written) == {"params"} and "norm" not in written["params"]
    assert written["params"]["linear"]["bias"].shape == (6,)
    before, after = (
        predicted(m, v, images) for m, v in [(model, variables), (folded, written)]
    )
    assert proof.difference(before, after) < 1e-13
    assert "norm" in variables["params"]


VARIANTS = {
    "mean only": bn.MeanOnlyBatchNorm,
    "variance only": bn.VarOnlyBatchNorm,
    "ghost": partial(bn.GhostBatchNorm, ghost_size=2),
    "renorm": bn.BatchRenorm,
    "frozen": bn.FrozenBatchNorm,
    "no gamma, no beta": partial(bn.BatchNorm, center=False, scale=False),
    "transformed": partial(
        bn.TransformedBatchNorm, transform=lambda *four: tuple(v.round(1) for v in four)
    ),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_our_variants_fold(variant):
    model = net(VARIANTS[variant](dtype="float64", eps=0.3))
    variables = initialized(model, columns, train=False)
    folded, written = bn.fold_batch_norm(model, columns, variables)
    before, after = (
        predicted(model, variables, columns),
        predicted(folded, written, columns),
    )
    assert proof.difference(before, after) < 1e-13


@resnets
def test_a_resnet_folds(stages):
    model = ResNet(stages, 4, "float64")
    variables = initialized(model, images)
    norms = bn.batch_norms(model, images)
    folded, written = bn.fold_batch_norm(model, images, variables)
    before, after = (
        predicted(model, variables, images),
        predicted(folded, written, images),
    )
    assert proof.difference(before, after) < 1e-13
    assert len(jax.tree.leaves(written)) == len(norms) * 2 + 2


@resnets
def test_fold_after_replace(stages):
    model = ResNet(stages, 4, "float64")
    variables = initialized(model, images)
    ours, written = bn.replace_batch_norm(
        model, bn.BatchNorm, images, variables=variables
    )
    _, written = bn.fold_batch_norm(ours, images, written)
    _, theirs = bn.fold_batch_norm(model, images, variables)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-12), written, theirs)


class Wrong(nn.Module):
    """Whatever a batch norm may not be folded for."""

    kind: str

    @nn.compact
    def __call__(self, X, train):
        kind, average = self.kind, not train
        dense = nn.Dense(5, name="dense", **float64)
        Y = dense(X)
        if kind == "activation":
            Y = nn.relu(Y)
        if kind == "layer norm":
            return nn.LayerNorm(name="ln", **float64)(Y)
        if kind == "linear twice":
            Y = dense(Y)
        if kind == "ours by batch":
            made = bn.BatchNorm(dtype="float64", statistics="batch", name="bn1")
            return made(Y, train)
        if kind == "two norms":
            X = norm(name="bn2")(Y, use_running_average=average)
        bn1 = norm(name="bn1", axis=1 if kind == "axis" else -1)
        Z = bn1(Y, use_running_average=average and kind != "batch")
        if kind == "norm twice":
            Z = bn1(Z, use_running_average=average)
        return Z + Y if kind == "residual" else Z


MOVING = "it must predict by moving statistics; "
REFUSED = {
    "activation": "bn1 cannot be folded: it must directly follow a convolution or "
    "dense layer; what it reads comes from elsewhere",
    "layer norm": f"ln cannot be folded: {MOVING}"
    "a layer norm predicts by those of each example",
    "linear twice": "bn1 cannot be folded: dense must be used once; it is used 2 times",
    "norm twice": "bn1 cannot be folded: it must be used once; it is used 2 times",
    "two norms": "bn2 cannot be folded: it alone must read dense; so does bn1",
    "batch": f"bn1 cannot be folded: {MOVING}it predicts by those of the batch",
    "ours by batch": f"bn1 cannot be folded: {MOVING}it predicts by those of the batch",
    "axis": "bn1 cannot be folded: it must normalize the last axis of X, with "
    "statistics [C]; its axis is 1 and its statistics have shape (4,)",
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_folded(kind):
    X = jnp.asarray(rng.normal(size=(3, 4, 5)))
    variables = initialized(Wrong(kind), X, train=False)
    with pytest.raises(ValueError, match=f"^{re.escape(REFUSED[kind])}$"):
        bn.fold_batch_norm(Wrong(kind), X, variables)


def test_the_proof_finds_who_reads_in_secret():
    variables = initialized(Wrong("residual"), columns, train=False)
    message = (
        r"^bn1 cannot be folded: it alone must read dense; the model's output in "
        r"prediction would change by .* so nothing was changed$"
    )
    with pytest.raises(ValueError, match=message):
        bn.fold_batch_norm(Wrong("residual"), columns, variables)


# --- Properties ---------------------------------------------------------------------


@tried(5)
@given(
    st.floats(1e-6, 1),
    st.floats(0.01, 1),
    st.booleans(),
    st.booleans(),
    st.sampled_from(list(LINEAR)),
)
def test_there_and_back_and_folded(eps, momentum, center, scale, kind):
    made = norm(eps=eps, momentum=momentum, center=center, scale=scale)
    model = net(made, LINEAR[kind]())
    variables = initialized(model, images, train=False)
    ours, written = bn.replace_batch_norm(
        model, bn.BatchNorm, images, variables=variables
    )
    [found] = bn.batch_norms(ours, images, written).values()
    assert found.settings["eps"] == eps
    assert found.settings["momentum"] == pytest.approx(momentum, rel=1e-12)
    back, again = bn.replace_batch_norm(ours, bn.builtin, images, variables=written)
    equal(again, variables)
    folded, written = bn.fold_batch_norm(back, images, again)
    before, after = (
        predicted(model, variables, images),
        predicted(folded, written, images),
    )
    assert proof.difference(before, after) < 1e-12


# --- nnx ----------------------------------------------------------------------------


class Residual(nnx.Module):
    """A small residual network; its layers are attributes and items of a list."""

    def __init__(self, rngs):
        conv = partial(nnx.Conv, kernel_size=(3, 3), param_dtype="float64", rngs=rngs)
        made = partial(nnx.BatchNorm, param_dtype="float64", rngs=rngs)
        self.conv, self.bn = conv(3, 6), made(6, momentum=0.8, epsilon=0.3)
        self.convs = nnx.List([conv(6, 6), conv(6, 6)])
        self.norms = nnx.Dict(first=made(6, use_bias=False), last=made(6))
        self.again = self.bn
        self.dropout = nnx.Dropout(0.3, rngs=rngs)

    def __call__(self, X):
        X = nnx.relu(self.bn(self.conv(X)))
        Y = nnx.relu(self.norms["first"](self.convs[0](X)))
        Y = self.norms["last"](self.convs[1](self.dropout(Y)))
        return self.again(Y + X).mean((1, 2))


def residual():
    return randomized_nnx(Residual(nnx.Rngs(0)))


class CastingNNX(nnx.Module):
    """Layers that cast to a dtype."""

    def __init__(self, dtype, rngs):
        own = {"dtype": dtype, "rngs": rngs}
        self.linear, self.norm = nnx.Linear(5, 6, **own), nnx.BatchNorm(6, **own)
        self.dropout = nnx.Dropout(0.2, rngs=rngs)
        self.last, self.out = nnx.BatchNorm(4, **own), nnx.Linear(6, 4, **own)

    def __call__(self, X):
        return self.last(self.out(self.dropout(nnx.tanh(self.norm(self.linear(X))))))


def casting_nnx(dtype):
    with enable_x64(False):
        model = randomized_nnx(CastingNNX(dtype, nnx.Rngs(0)))
        return model, jnp.asarray(rng.normal(3, 2, (8, 5)), "float32")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", None])
def test_every_dtype_of_an_nnx_module_is_proven_in_float64(dtype, differences):
    model, X = casting_nnx(dtype)
    before = jax.tree.map(np.array, nnx.state(model, nnx.Param, nnx.BatchStat))
    with enable_x64(False):
        ours = bn.replace_batch_norm(model, bn.BatchNorm, X)
        folded = bn.fold_batch_norm(ours, X)
        for new in (ours, folded):
            assert new.linear.kernel.dtype == "float32" and new.linear.dtype == dtype
            new.eval()
            assert new(X).dtype == (dtype or "float32")
    assert len(differences) == 3 and max(differences) < 1e-13
    assert model.linear.dtype == model.norm.dtype == dtype
    assert ours.norm.layer.dtype == "float32"
    equal(nnx.state(model, nnx.Param, nnx.BatchStat), before)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_small_difference_of_an_nnx_module_is_refused(dtype, slightly_wrong):
    model, X = casting_nnx(dtype)
    for surgery in slightly_wrong(bn):
        with enable_x64(False), pytest.raises(ValueError, match=SLIGHTLY):
            surgery(model, X)


def randomized_nnx(model):
    state = nnx.state(model, (nnx.Param, nnx.BatchStat))

    def value(path, v):
        positive = path[-1] in ("scale", "var")
        made = rng.uniform(0.5, 2, v.shape) if positive else rng.normal(0, 0.5, v.shape)
        return v.replace(jnp.asarray(made))

    nnx.update(model, nnx.map_state(value, state))
    return model


class Contained(nnx.Module):
    """Layers in the containers that nnx knows."""

    def __init__(self, rngs):
        def norm():
            return nnx.BatchNorm(5, param_dtype="float64", rngs=rngs)

        self.chain = nnx.Sequential(norm(), nnx.relu)
        self.plain = nnx.data([(norm(), norm())])
        self.named = nnx.data({"last": norm()})

    def __call__(self, X):
        [(first, second)] = self.plain
        return self.named["last"](second(first(self.chain(X))))


def test_nnx_layers_in_containers():
    model = randomized_nnx(Contained(nnx.Rngs(0)))
    ours = bn.replace_batch_norm(model, bn.BatchNorm, columns)
    found = bn.batch_norms(ours)
    assert list(found) == ["chain.layers.0", "named.last", "plain.0.0", "plain.0.1"]
    assert not any(d.native for d in found.values())
    assert all(d.native for d in bn.batch_norms(model).values())
    [seen] = reestimation.inputs_of_norms(ours, columns)["chain.layers.0"]
    np.testing.assert_array_equal(seen, columns)


@pytest.mark.parametrize("axis", [(1, -1), (2, 1), (-1,)])
def test_nnx_knows_a_layer_of_several_axes(axis):
    """The sizes are in the order of X's axes."""

    class Model(nnx.Module):
        def __init__(self, layer, variables):
            self.norm = nnx_surgery.Adapter(layer, variables)

    sizes = tuple(images.shape[a] for a in spec.kept_axes(images.ndim, axis))
    layer = bn.BatchNorm(sizes, axis=axis, dtype="float64")
    variables = layer.init(KEY, images, training=False)
    found = bn.batch_norms(Model(layer, variables))["norm"]
    assert tuple_of(found.num_features) == sizes
    assert found.settings["axis"] == axis
    assert found.state["moving_mean"].shape == sizes


def test_nnx_there_and_back():
    model = residual()
    before = nnx.state(nnx.clone(model))
    ours = bn.replace_batch_norm(model, bn.BatchNorm, images)
    assert ours.bn is ours.again
    found, theirs = bn.batch_norms(ours), bn.batch_norms(model)
    assert list(found) == ["again", "norms.first", "norms.last"]
    for path, described in theirs.items():
        assert described.native and not found[path].native
        assert found[path].settings == described.settings
        equal(found[path].state, described.state)
    back = bn.replace_batch_norm(ours, bn.builtin, images)
    assert type(back.bn) is nnx.BatchNorm and back.bn.epsilon == 0.3
    equal_state(back, before)
    equal_state(model, before)


def equal_state(model, state):
    values = [jax.tree.leaves(s) for s in (nnx.state(model), state)]
    for v, want in zip(*values, strict=True):
        if not jnp.issubdtype(v.dtype, jax.dtypes.prng_key):
            np.testing.assert_array_equal(v, want)


def test_nnx_follows_the_mode():
    model = residual()
    ours = bn.replace_batch_norm(model, bn.BatchNorm)
    for m in (model, ours):
        m.eval()
    before = model(images)
    np.testing.assert_allclose(ours(images), before, rtol=1e-12)
    np.testing.assert_allclose(ours(images), before, rtol=1e-12)  # nothing moved
    for m in (model, ours):
        m.train()
    step = nnx.jit(lambda m, X: m(X))
    np.testing.assert_allclose(step(ours, images), step(model, images), rtol=1e-10)
    moved = bn.batch_norms(ours)
    for path, described in bn.batch_norms(model).items():
        for name, value in described.state.items():
            np.testing.assert_allclose(moved[path].state[name], value, rtol=1e-10)


def test_nnx_gradients():
    model, dY = residual(), jnp.asarray(rng.normal(size=(4, 6)))
    ours = bn.replace_batch_norm(model, bn.BatchNorm)
    gradient = nnx.grad(lambda m: (m(images) * dY).sum())
    theirs, got = gradient(model), gradient(ours)
    np.testing.assert_allclose(
        got["again"]["gamma"][...], theirs["again"]["scale"][...]
    )
    want = theirs["conv"]["kernel"][...]
    np.testing.assert_allclose(got["conv"]["kernel"][...], want, rtol=1e-8, atol=1e-10)


def test_nnx_refuses_another_eps_and_no_batch_norm():
    make = lambda C, D, **kwargs: bn.BatchNorm(C, D, **(kwargs | {"eps": 1e-2}))  # noqa: E731
    with pytest.raises(
        ValueError, match="the model's output in prediction would change"
    ):
        bn.replace_batch_norm(residual(), make, images)
    plain = nnx.Linear(5, 2, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match=NONE):
        bn.replace_batch_norm(plain, bn.BatchNorm)


class Straight(nnx.Module):
    """Linear layers of every kind, each with a batch norm behind it."""

    def __init__(self, rngs, branch=False):
        made = {"param_dtype": "float64", "rngs": rngs}
        kernel = {"kernel_size": (3, 3)} | made
        self.layers = nnx.List(
            [
                nnx.Conv(3, 6, **kernel),
                nnx.Conv(6, 12, feature_group_count=3, use_bias=False, **kernel),
                nnx.ConvTranspose(12, 4, **kernel),
                nnx.ConvTranspose(4, 5, transpose_kernel=True, **kernel),
                nnx.Linear(5, 7, use_bias=False, **made),
            ]
        )
        sizes = 6, 12, 4, 5, 7
        self.norms = nnx.List([nnx.BatchNorm(C, epsilon=0.2, **made) for C in sizes])
        self.branch = branch

    def __call__(self, X):
        for layer, norm in zip(self.layers, self.norms, strict=True):
            Y = layer(X)
            X = nnx.relu(
                norm(Y) + (Y if self.branch and layer is self.layers[1] else 0)
            )
        return X


@pytest.mark.parametrize("norm", ["builtin", "scratch", "mean only"])
def test_nnx_folds(norm):
    model = randomized_nnx(Straight(nnx.Rngs(0)))
    makes = {"scratch": bn.BatchNorm, "mean only": bn.MeanOnlyBatchNorm}
    if norm in makes:
        model = bn.replace_batch_norm(model, makes[norm])
    before = nnx.state(nnx.clone(model))
    folded = bn.fold_batch_norm(model, images)
    assert bn.batch_norms(folded) == {}
    equal_state(model, before)
    model.eval()
    want = model(images)
    np.testing.assert_allclose(folded(images), want, atol=1e-12 * np.abs(want).max())


def test_what_nnx_cannot_fold():
    message = "^again cannot be folded: it must be used once; it is used 2 times$"
    with pytest.raises(ValueError, match=message):
        bn.fold_batch_norm(residual(), images)
    message = r"^norms\.1 cannot be folded: it alone must read layers\.1; "
    with pytest.raises(ValueError, match=message):
        bn.fold_batch_norm(randomized_nnx(Straight(nnx.Rngs(0), branch=True)), images)
    first = nnx.Sequential(nnx.relu, nnx.BatchNorm(3, rngs=nnx.Rngs(0)))
    message = (
        "it must directly follow a convolution or dense layer; what it reads comes"
    )
    with pytest.raises(ValueError, match=message):
        bn.fold_batch_norm(first, images)
    with pytest.raises(ValueError, match=NONE):
        bn.fold_batch_norm(nnx.Linear(3, 2, rngs=nnx.Rngs(0)), images)


# --- Within transformations -----------------------------------------------------------


class Hidden(nn.Module):
    """A dense layer and a batch norm within `nn.remat`: there, arrays are traced."""

    @nn.compact
    def __call__(self, X, train=False):
        return nn.remat(Shown, static_argnums=(2,))(name="inner")(X, train)


class Shown(nn.Module):
    @nn.compact
    def __call__(self, X, train=False):
        norm = nn.BatchNorm(use_running_average=not train, name="norm")
        return norm(nn.Dense(5, name="dense")(X))


class RematNNX(nnx.Module):
    def __init__(self):
        self.dense = nnx.Linear(5, 5, rngs=nnx.Rngs(0))
        self.norm = nnx.BatchNorm(5, rngs=nnx.Rngs(0))

    def __call__(self, X):
        return nnx.remat(lambda layers, X: layers.norm(layers.dense(X)))(self, X)


def test_remat():
    variables = Hidden().init(KEY, columns)
    inner = {kind: tree["inner"] for kind, tree in variables.items()}
    [plain] = bn.batch_norms(
        Shown(), columns, bn.reestimate(Shown(), [columns], inner)
    ).values()
    [found] = bn.batch_norms(
        Hidden(), columns, bn.reestimate(Hidden(), [columns], variables)
    ).values()
    for name, v in plain.state.items():
        np.testing.assert_allclose(found.state[name], v, rtol=1e-6, atol=1e-6)
    assert [row.description.name for row in health(Hidden(), columns, variables).rows]
    bn.fold_batch_norm(Hidden(), columns, variables)


def test_remat_of_nnx():
    model = RematNNX()
    found = bn.batch_norms(bn.reestimate(model, [columns]))["norm"].state
    mean = np.asarray(model.dense(columns)).mean(0)
    np.testing.assert_allclose(found["moving_mean"], mean, rtol=1e-5, atol=1e-6)
    assert len(health(model, columns).rows) == 1
    bn.fold_batch_norm(model, columns)
