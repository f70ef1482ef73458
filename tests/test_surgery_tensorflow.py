"""Model surgery in Keras: what a model answers stays, and so does its state."""

import re
import warnings
from functools import partial

import numpy as np
import pytest
from conftest import SLIGHTLY, load_or_skip
from hypothesis import given
from hypothesis import strategies as st
from properties import tried
from whole_models import refuses

from bn_from_scratch.health import health

bn = load_or_skip("tensorflow")

import keras  # noqa: E402
import tensorflow as tf  # noqa: E402
from keras import layers as nn  # noqa: E402

from bn_from_scratch.backends.tensorflow.models import copying  # noqa: E402
from bn_from_scratch.surgery import proof  # noqa: E402

rng = np.random.default_rng(0)
images = rng.normal(3, 2, (4, 12, 10, 3))
columns = rng.normal(3, 2, (8, 5))


@pytest.fixture(autouse=True)
def float64():
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_dtype_policy(before)


def randomized(model):
    """A model as training leaves it: no gamma is 1, no moving mean 0."""
    for path, v in [(v.path.split("/")[-1], v) for v in model.variables]:
        if path in ("gamma", "moving_variance", "moving_var"):
            v.assign(rng.uniform(0.5, 2, v.shape))
        elif path in ("beta", "moving_mean", "bias"):
            v.assign(rng.normal(0, 0.5, v.shape))
    return model


def state(model):
    return [v.numpy() for v in model.variables]


def equal(got, want):
    for v, w in zip(got, want, strict=True):
        np.testing.assert_array_equal(v, w)


def net(norm=None, linear=None, X=columns):
    """A linear layer, a batch norm and another layer."""
    layers = [
        linear or nn.Dense(6, name="linear"),
        norm or nn.BatchNormalization(name="bn"),
    ]
    layers += [nn.Activation("tanh"), nn.Dense(2)]
    return randomized(keras.Sequential([keras.Input(X.shape[1:]), *layers]))


def mobile(dtype="float64"):
    keras.config.set_dtype_policy(dtype)
    make = keras.applications.MobileNetV2
    shape = 32, 32, 3
    return randomized(make(shape, alpha=0.35, weights=None, classes=10))


# --- Which there are ----------------------------------------------------------------


def test_a_batch_norm_in_the_words_of_the_spec():
    layer = nn.BatchNormalization(epsilon=0.3, momentum=0.8, center=False, name="bn")
    [(path, found)] = bn.batch_norms(net(layer)).items()
    assert path == found.name == "bn"
    assert (found.kind, found.native) == ("BatchNormalization", True)
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
    np.testing.assert_array_equal(found.state["gamma"], layer.gamma.numpy())


def test_ours_is_described_by_its_own_settings():
    own = {"momentum": None, "correction": 1, "frozen": "affine"}
    layer = bn.GhostBatchNorm(ghost_size=2, **own)
    [found] = bn.batch_norms(net(layer)).values()
    assert (found.kind, found.native, found.num_dims) == ("GhostBatchNorm", False, None)
    assert found.settings.items() >= own.items()
    assert found.trainable == {"gamma": False, "beta": False}
    assert "moving_count" in found.state


def test_not_built_yet():
    model = keras.Sequential([nn.Dense(6), nn.BatchNormalization(name="bn")])
    [found] = bn.batch_norms(model).values()
    assert (found.num_features, found.num_dims, found.state) == (None, None, {})


def test_a_batch_norm_in_a_wrapper_is_found():
    wrapped = nn.TimeDistributed(nn.BatchNormalization(name="bn"), name="steps")
    model = keras.Sequential([keras.Input((3, 5)), wrapped])
    assert list(bn.batch_norms(model)) == ["steps.bn"]
    message = (
        "steps.bn cannot be replaced: it must lie in a functional or sequential model; "
        "it lies in a layer or model of another kind"
    )
    with pytest.raises(ValueError, match=f"^{message}$"):
        bn.replace_batch_norm(model, bn.BatchNorm)


# --- Replace ------------------------------------------------------------------------


def test_lenet_there_and_back():
    X = rng.normal(size=(4, 28, 28, 1))
    model = randomized(bn.BNLeNet(bn.builtin, dtype="float64"))
    before = state(model)
    ours = bn.replace_batch_norm(model, bn.BatchNorm, X)
    assert [d.kind for d in bn.batch_norms(ours).values()] == ["BatchNorm"] * 4
    assert [v.name for v in ours.layers] == [v.name for v in model.layers]
    back = bn.replace_batch_norm(ours, bn.builtin, X)
    equal(state(back), before)
    equal(state(model), before)
    np.testing.assert_array_equal(back(X), model(X))


def test_mobile_net_there_and_back():
    model = mobile()
    before = state(model)
    ours = bn.replace_batch_norm(model, bn.BatchNorm, rng.normal(size=(2, 32, 32, 3)))
    found = bn.batch_norms(ours)
    assert len(found) == 52 and not any(d.native for d in found.values())
    for path, described in bn.batch_norms(model).items():
        assert found[path].settings == described.settings
        for name, value in described.state.items():
            np.testing.assert_array_equal(found[path].state[name], value)
    equal(state(bn.replace_batch_norm(ours, bn.builtin)), before)
    equal(state(model), before)


POLICIES = "float32", "mixed_float16", "mixed_bfloat16", "float16", "bfloat16"


@pytest.mark.parametrize("policy", POLICIES)
def test_every_dtype_policy_is_proven_in_float64(policy, differences):
    keras.config.set_dtype_policy(policy)
    model, X = net(), columns.astype("float32")
    ours = bn.replace_batch_norm(model, bn.BatchNorm, X)
    folded = bn.fold_batch_norm(ours, X)
    assert len(differences) == 3 and max(differences) < 1e-13
    for copy in (ours, folded):
        assert {v.dtype_policy.name for v in copy.layers} == {policy}
    assert keras.config.dtype_policy().name == policy
    assert keras.config.floatx() == "float32"


def test_mobile_net_is_proven_in_float64(differences):
    """In float32 it differs by 1e-5 in training, from rounding alone."""
    model, X = mobile("mixed_bfloat16"), rng.normal(size=(8, 32, 32, 3))
    ours = bn.replace_batch_norm(model, bn.BatchNorm, X)
    bn.fold_batch_norm(ours, X)
    assert len(differences) == 3 and max(differences) < 1e-12


@pytest.mark.parametrize("policy", POLICIES)
def test_a_small_difference_is_refused(policy, slightly_wrong):
    keras.config.set_dtype_policy(policy)
    model, X = net(), columns.astype("float32")
    for surgery in slightly_wrong(bn):
        with pytest.raises(ValueError, match=SLIGHTLY):
            surgery(model, X)
    assert keras.config.dtype_policy().name == policy


@keras.saving.register_keras_serializable()
class Pair(nn.Layer):
    """A layer that makes others, without a word on their dtype."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = nn.Dense(5, name="dense")

    def build(self, shape):
        self.again = nn.Dense(5, name="again")
        self.dense.build(shape)
        self.again.build(shape)

    def call(self, X):
        one = keras.ops.ones((), keras.config.floatx())
        return self.again(keras.ops.tanh(self.dense(X) * one))


@keras.saving.register_keras_serializable()
class Doubled(nn.Layer):
    def call(self, X):
        return X * tf.constant(2.0)


@pytest.mark.parametrize("kind", ["lambda", "layer"])
def test_a_model_that_does_not_run_in_float64(kind):
    """TensorFlow's constants have a dtype, and it mixes none."""
    keras.config.set_dtype_policy("float32")
    last = Doubled() if kind == "layer" else nn.Lambda(lambda X: X * tf.constant(2.0))
    model = keras.Sequential([keras.Input((5,)), nn.BatchNormalization(), last])
    bn.replace_batch_norm(model, bn.BatchNorm)
    message = (
        "^proven in float32, to 3e-04 of the largest value: the model does not run"
    )
    with pytest.warns(UserWarning, match=message):
        bn.replace_batch_norm(model, bn.BatchNorm, columns)
    with pytest.raises(ValueError, match=r"would change by .*; more than 3e-04"):
        bn.replace_batch_norm(model, partial(bn.BatchNorm, eps=0.5), columns)
    assert keras.config.floatx() == keras.config.dtype_policy().name == "float32"


def test_layers_in_layers_are_proven_in_float64(differences):
    keras.config.set_dtype_policy("float32")
    X = {"words": keras.Input((4,), dtype="int32", name="words")}
    X["more"] = keras.Input((4, 5), name="more")
    inner = [keras.Input((4, 5)), Pair(), nn.BatchNormalization()]
    inner = keras.Sequential(inner, name="inner")
    Y = nn.Embedding(7, 5)(nn.Hashing(7, dtype="int32")(X["words"]))
    Y = nn.Add()([Y, nn.TimeDistributed(nn.Dense(5))(X["more"])])
    cells = nn.RNN([nn.GRUCell(3), nn.LSTMCell(3)])
    Y = nn.Bidirectional(cells)(nn.Dropout(0.2)(inner(Y)))
    model = randomized(keras.Model(X, nn.BatchNormalization()(nn.Dense(6)(Y))))
    given = {"words": rng.integers(0, 7, (8, 4)), "more": rng.normal(size=(8, 4, 5))}
    bn.replace_batch_norm(model, bn.BatchNorm, given)
    assert len(differences) == 2 and max(differences) < 1e-13
    exact = copying.exact(model)
    assert {v.dtype for v in exact.weights} == {"float64"}
    dtypes = {name: v.dtype for name, v in exact.input.items()}
    assert dtypes == {"words": "int32", "more": "float64"}
    assert exact.get_layer("inner").inputs[0].dtype == "float64"


def test_the_dtype_policy_is_kept():
    keras.config.set_dtype_policy("mixed_float16")
    model = net()
    ours = bn.replace_batch_norm(model, bn.BatchNorm)
    layer = ours.get_layer("bn")
    assert layer.dtype_policy.name == "mixed_float16"
    assert layer.gamma.dtype == "float32"
    assert ours(columns).dtype == model(columns).dtype == "float16"


@pytest.mark.parametrize("functional", [False, True])
def test_a_compiled_model_stays_compiled(functional):
    model = net()
    if functional:
        model = keras.Model(model.inputs, model.outputs)
    model.compile(keras.optimizers.SGD(0.25), "mse")
    ours = bn.replace_batch_norm(model, bn.BatchNorm, columns)
    assert ours.compiled and float(ours.optimizer.learning_rate) == 0.25
    ours.fit(columns, columns[:, :2], verbose=0)


def test_training_moves_the_statistics_as_before():
    model = net(nn.BatchNormalization(momentum=0.7, name="bn"))
    ours = bn.replace_batch_norm(model, bn.BatchNorm)
    for m in (model, ours):
        m(columns, training=True)
    equal_up_to_rounding(ours, model)


def equal_up_to_rounding(ours, model):
    found = bn.batch_norms(ours)
    for path, described in bn.batch_norms(model).items():
        for name, value in described.state.items():
            np.testing.assert_allclose(found[path].state[name], value, rtol=1e-12)


def test_it_trains_in_the_trainer(garments):
    model = bn.BNLeNet(bn.builtin, dtype="float64")
    ours = bn.replace_batch_norm(model, bn.BatchNorm)
    data = garments.take(train=64, test=32)
    losses = [
        bn.Trainer(max_epochs=1, batch_size=32).fit(m, data) for m in (model, ours)
    ]
    assert losses[0].loss == pytest.approx(losses[1].loss, rel=1e-10)


def test_a_variant_predicts_alike():
    model, ghost = net(), partial(bn.GhostBatchNorm, ghost_size=2)
    ours = bn.replace_batch_norm(model, ghost, columns, modes=["prediction"])
    assert ours.get_layer("bn").ghost_size == 2
    with pytest.raises(ValueError, match="the model's output in training would change"):
        bn.replace_batch_norm(model, ghost, columns)
    frozen = bn.replace_batch_norm(model, bn.FrozenBatchNorm)
    np.testing.assert_array_equal(frozen(columns, training=True), frozen(columns))


def test_initializers_regularizers_and_constraints_are_kept():
    own = {
        "gamma_initializer": "zeros",
        "moving_variance_initializer": keras.initializers.Constant(3),
        "beta_regularizer": keras.regularizers.L2(0.1),
        "gamma_constraint": keras.constraints.NonNeg(),
    }
    model = keras.Sequential([nn.BatchNormalization(name="bn", **own)])
    ours = bn.replace_batch_norm(model, bn.BatchNorm)
    assert not ours.built and not ours.layers[0].built
    for m in (model, ours, bn.replace_batch_norm(ours, bn.builtin)):
        m(columns)
        [found] = bn.batch_norms(m).values()
        assert not found.state["gamma"].any() and (found.state["moving_var"] == 3).all()
        layer = m.layers[0]
        assert layer.beta_regularizer.l2 == pytest.approx(0.1)
        assert isinstance(layer.gamma.constraint, keras.constraints.NonNeg)


def test_a_built_layer_in_a_model_that_is_not():
    layer = nn.BatchNormalization(name="bn")
    layer(columns)
    model = keras.Sequential([layer])
    layer.gamma.assign(rng.uniform(1, 2, 5))
    ours = bn.replace_batch_norm(model, bn.BatchNorm)
    np.testing.assert_array_equal(ours.layers[0].gamma, layer.gamma)


@pytest.mark.parametrize("trainable", [True, False])
def test_what_is_trainable(trainable):
    model = net()
    model.trainable = trainable
    model.get_layer("bn").trainable = not trainable
    ours = bn.replace_batch_norm(model, bn.BatchNorm, columns)
    assert ours.trainable is trainable
    flags = [v.trainable for v in model.layers]
    assert [v.trainable for v in ours.layers] == flags
    names = [[v.name for v in m.trainable_variables] for m in (model, ours)]
    assert names[0] == names[1]
    back = bn.replace_batch_norm(ours, bn.builtin, columns)
    assert [v.trainable for v in back.layers] == flags


def test_one_fixed_parameter():
    model = net()
    model.get_layer("bn").gamma.trainable = False
    ours = bn.replace_batch_norm(model, bn.BatchNorm)
    [found] = bn.batch_norms(ours).values()
    assert found.trainable == {"gamma": False, "beta": True}


def test_frozen_is_not_trainable_in_the_words_of_keras():
    model = net(bn.BatchNorm(frozen="all", name="bn"))
    theirs = bn.replace_batch_norm(model, bn.builtin, columns)
    assert not theirs.get_layer("bn").trainable
    assert theirs.get_layer("linear").trainable


def functional():
    """A shared batch norm, a nested model used twice, two inputs and a dropout."""
    shared = nn.BatchNormalization(name="shared")
    inner = [
        keras.Input((6,), name="inside"),
        nn.Dense(6),
        nn.BatchNormalization(name="bn"),
    ]
    inner = keras.Sequential([*inner, shared], name="inner")
    a, b = keras.Input((5,), name="a"), keras.Input((5,), name="b")
    dense = nn.Dense(6, name="dense")
    X, Y = shared(dense(a)), shared(dense(b), training=False)
    Y = nn.Lambda(lambda v: 2 * v, name="lambda")(inner(inner(Y)))
    Z = nn.Dropout(0.4)(nn.Add()([X, Y]))
    outer = keras.Model({"a": a, "b": b}, {"sum": Z, "other": X})
    return randomized(outer)


def test_shared_layers_and_nested_models():
    model, X = functional(), {"a": columns, "b": columns[::-1]}
    assert list(bn.batch_norms(model)) == ["shared", "inner.bn", "inner.shared"]
    ours = bn.replace_batch_norm(model, bn.BatchNorm, X)
    assert ours.get_layer("shared") is ours.get_layer("inner").get_layer("shared")
    assert [v.name for v in ours.layers] == [v.name for v in model.layers]
    assert len(ours.variables) == len(model.variables)
    for m in (model, ours):
        m(X, training=True)
    equal_up_to_rounding(ours, model)


def test_exchange_names_of_a_nested_model():
    from bn_from_scratch.backends.tensorflow.builtin import exchange_names

    names = list(exchange_names(functional()))
    assert {"dense.weight", "inner.bn.moving_var", "shared.gamma"} <= set(names)


def test_another_axis():
    layer = nn.BatchNormalization(axis=1, name="bn")
    model = net(layer, nn.Conv2D(6, 3, name="linear"), images)
    ours = bn.replace_batch_norm(model, bn.BatchNorm, images)
    assert ours.get_layer("bn").num_features == 10
    bn.replace_batch_norm(ours, bn.builtin, images)


# --- What is refused ----------------------------------------------------------------


def test_another_eps_is_refused():
    make = lambda C, D, **kwargs: bn.BatchNorm(C, D, **(kwargs | {"eps": 1e-2}))  # noqa: E731
    model = net()
    before = state(model)
    with pytest.raises(
        ValueError, match="the model's output in prediction would change"
    ):
        bn.replace_batch_norm(model, make, columns)
    equal(state(model), before)


def test_a_lost_gamma_is_refused():
    make = lambda C, D, **kwargs: bn.BatchNorm(C, D, **(kwargs | {"scale": False}))  # noqa: E731
    message = (
        "bn cannot be replaced: the new layer must keep its gamma; "
        "BatchNorm has beta, moving_mean, moving_var"
    )
    with pytest.raises(ValueError, match=f"^{message}$"):
        bn.replace_batch_norm(net(), make)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"momentum": None}, "Keras's layer needs a momentum; got None"),
        (
            {"statistics": "batch"},
            "Keras's layer predicts by moving statistics; got statistics='batch'",
        ),
        (
            {"frozen": "affine"},
            "Keras's layer is frozen whole or not at all; got frozen='affine'",
        ),
        ({"axis": (1, 2)}, "Keras's layer has one channel axis; got axis=(1, 2)"),
    ],
)
def test_what_the_builtin_cannot_say(setting, message):
    model = keras.Sequential([keras.Input((3, 4)), bn.BatchNorm(name="bn", **setting)])
    message = re.escape(f"bn cannot be replaced: {message}")
    with pytest.raises(ValueError, match=f"^{message}$"):
        bn.replace_batch_norm(model, bn.builtin)


class Own(keras.Model):
    def __init__(self):
        super().__init__()
        self.bn = nn.BatchNormalization(name="bn")

    def call(self, X):
        return self.bn(X)


def test_a_subclassed_model():
    model = Own()
    assert list(bn.batch_norms(model)) == ["bn"]
    message = "the model must be functional or sequential, to be taken apart; got Own"
    with pytest.raises(ValueError, match=f"^{message}$"):
        bn.replace_batch_norm(model, bn.BatchNorm)


def test_a_model_without_any():
    model = keras.Sequential([keras.Input((5,)), nn.Dense(2)])
    assert bn.batch_norms(model) == {}
    for cut in (partial(bn.replace_batch_norm, make=bn.BatchNorm), bn.fold_batch_norm):
        with pytest.raises(
            ValueError, match=r"^the model must have a batch norm; it has"
        ):
            cut(model, X=columns)


# --- Fold ---------------------------------------------------------------------------

LINEAR = {
    "dense": partial(nn.Dense, 6),
    "no bias": partial(nn.Dense, 6, use_bias=False),
    "conv": partial(nn.Conv2D, 6, 3),
    "conv, no bias": partial(nn.Conv2D, 6, 3, use_bias=False, padding="same"),
    "groups": partial(nn.Conv2D, 6, 3, groups=3),
    "depthwise": partial(nn.DepthwiseConv2D, 3, depth_multiplier=2),
    "separable": partial(nn.SeparableConv2D, 6, 3, use_bias=False),
    "transposed": partial(nn.Conv2DTranspose, 6, 3, strides=2),
}
OTHER_RANKS = {
    "1d": (partial(nn.Conv1D, 6, 3), (4, 9, 3)),
    "1d depthwise": (partial(nn.DepthwiseConv1D, 3, depth_multiplier=2), (4, 9, 3)),
    "1d transposed": (partial(nn.Conv1DTranspose, 6, 3), (4, 9, 3)),
    "3d": (partial(nn.Conv3D, 6, 2), (2, 4, 5, 4, 3)),
    "3d transposed": (partial(nn.Conv3DTranspose, 6, 2), (2, 4, 5, 4, 3)),
}


def folds(model, X, tolerance=1e-13):
    before = state(model)
    folded = bn.fold_batch_norm(model, X)
    assert bn.batch_norms(folded) == {}
    assert proof.difference(model(X).numpy(), folded(X).numpy()) < tolerance
    equal(state(model), before)
    return folded


@pytest.mark.parametrize("kind", LINEAR)
@pytest.mark.parametrize("ours", [False, True])
def test_each_linear_layer_takes_one_in(kind, ours):
    layer = (
        bn.BatchNorm(eps=0.3, name="bn") if ours else bn.builtin(6, 4, 0.3, name="bn")
    )
    folded = folds(net(layer, LINEAR[kind](name="linear"), images), images)
    assert folded.get_layer("linear").use_bias
    assert type(folded.get_layer("bn")) is nn.Identity


@pytest.mark.parametrize("kind", OTHER_RANKS)
def test_other_ranks(kind):
    make, shape = OTHER_RANKS[kind]
    X = rng.normal(size=shape)
    folds(net(None, make(name="linear"), X), X)


VARIANTS = {
    "mean only": bn.MeanOnlyBatchNorm,
    "variance only": bn.VarOnlyBatchNorm,
    "ghost": partial(bn.GhostBatchNorm, ghost_size=2),
    "renorm": bn.BatchRenorm,
    "frozen": bn.FrozenBatchNorm,
    "no gamma, no beta": partial(bn.BatchNorm, center=False, scale=False),
    "transformed": partial(
        bn.TransformedBatchNorm, transform=lambda *four: tuple(v + 0.5 for v in four)
    ),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_our_variants_fold(variant):
    folds(net(VARIANTS[variant](eps=0.3, name="bn")), columns)


def test_mobile_net_folds():
    X = rng.normal(size=(2, 32, 32, 3))
    folded = folds(mobile(), X)
    assert len([v for v in folded.layers if isinstance(v, nn.Identity)]) == 52


HALF = 0.5  # a name that functions use


def halved(X):
    return HALF * X


def halves(shape, dtype):
    return keras.ops.full(shape, HALF, dtype)


FUNCTIONS = {
    "lambda layer": lambda: nn.Lambda(lambda X: HALF * X),
    "activation": lambda: nn.Dense(3, activation=halved),
    "nameless": lambda: nn.Dense(3, activation=lambda X: HALF * X),
    "initializer": lambda: nn.Dense(3, kernel_initializer=halves),
    "transform": lambda: bn.TransformedBatchNorm(
        transform=partial(bn.fake_quantize, bits=4)
    ),
}


@keras.saving.register_keras_serializable()
class Louder(bn.BatchNorm):
    """A user's own, with an argument and a config of its own."""

    def __init__(self, *args, gain, **kwargs):
        super().__init__(*args, **kwargs)
        self.gain = gain

    def normalize(self, *args, **kwargs):
        return self.gain * super().normalize(*args, **kwargs)

    def get_config(self):
        return super().get_config() | {"gain": self.gain}


def test_a_users_own_batch_norm():
    """It is copied, and replaced by its like; what it does is not known."""
    model = net(Louder(gain=2.0, name="bn"))
    copy = copying.rebuilt(model)
    np.testing.assert_array_equal(copy(columns), model(columns))
    make = partial(Louder, gain=2.0)
    bn.replace_batch_norm(model, make, columns)
    message = (
        "bn cannot be {}: it must be exactly a batch norm of its framework or of ours; "
        "Louder has a normalize of its own"
    )
    refuses(message.format("folded"), bn.fold_batch_norm, model, columns)
    refuses(message.format("replaced"), bn.replace_batch_norm, model, bn.BatchNorm)


@pytest.mark.parametrize("kind", FUNCTIONS)
def test_functions_are_handed_on(kind):
    """In a config they are lost: Keras's own clone_model fails on all of these."""
    layers = [keras.Input((5,)), nn.Dense(6)]
    if kind != "transform":
        layers.append(nn.BatchNormalization())
    model = randomized(keras.Sequential([*layers, FUNCTIONS[kind]()]))
    with warnings.catch_warnings(action="error"):
        folds(model, columns)
        if kind != "transform":
            bn.replace_batch_norm(model, bn.BatchNorm, columns)


@keras.saving.register_keras_serializable()
class Block(nn.Layer):
    """A layer that holds layers: in a copy they have other names."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense, self.norm = nn.Dense(5), nn.BatchNormalization()

    def call(self, X, training=None):
        return self.norm(self.dense(X), training=training)


def test_a_layer_that_holds_a_batch_norm():
    inputs = keras.Input((5,))
    model = keras.Model(inputs, nn.BatchNormalization(name="last")(Block()(inputs)))
    inner, last = bn.batch_norms(model)
    found = bn.batch_norms(bn.reestimate(model, [columns]))
    state = next(iter(found.values())).state
    X = keras.ops.convert_to_numpy(model.layers[1].dense(columns))
    np.testing.assert_allclose(state["moving_mean"], X.mean(0), rtol=1e-5, atol=1e-6)
    assert [row.description.name for row in health(model, columns).rows] == [
        inner,
        last,
    ]
    refuses(
        f"{inner} cannot be replaced: it must lie in a functional or sequential model; "
        "it lies in a layer or model of another kind",
        bn.replace_batch_norm,
        model,
        bn.BatchNorm,
    )
    _, left = bn.fold_batch_norm(model, columns, partial=True)
    assert list(left) == [inner, last]


def test_a_nested_model_used_twice_folds():
    inside = [nn.Dense(5), nn.BatchNormalization()]
    inner = keras.Sequential([keras.Input((5,)), *inside], name="inner")
    X = keras.Input((5,))
    folds(randomized(keras.Model(X, inner(inner(X)))), columns)


def wrong(kind):
    """A model whose batch norm bn1 may not be folded, for this reason."""
    by_batch = {"statistics": "batch"} if kind == "ours by batch" else None
    layer = bn.BatchNorm(name="bn1", **by_batch) if by_batch else None
    bn1 = layer or nn.BatchNormalization(name="bn1", axis=1 if kind == "axis" else -1)
    if kind == "layer norm":
        bn1 = nn.LayerNormalization(name="bn1")
    if kind == "our layer norm":
        bn1 = bn.LayerNorm(5, name="bn1")
    activation = "relu" if kind == "activation" else None
    dense = nn.Dense(5, name="dense", activation=activation)
    X = keras.Input((4, 5), name="X")
    Y = Z = dense(X)
    if kind == "relu":
        Y = nn.ReLU(name="relu")(Y)
    if kind == "linear twice":
        Y = dense(Y)
    if kind == "training":
        return keras.Model(X, bn1(Y, training=True))
    Z = bn1(Y)
    if kind == "norm twice":
        Z = bn1(Z)
    if kind == "residual":
        Z = nn.Add(name="add")([Z, Y])
    return keras.Model(X, [Z, Y] if kind == "output" else Z)


MOVING = "it must predict by moving statistics; "
REFUSED = {
    "activation": "dense must be linear; its activation is relu",
    "relu": "it must directly follow a convolution or dense layer; "
    "it follows relu (ReLU)",
    "layer norm": f"{MOVING}a layer norm predicts by those of each example",
    "our layer norm": f"{MOVING}a layer norm predicts by those of each example",
    "linear twice": "dense must be used once; it is used 2 times",
    "norm twice": "it must be used once; it is used 2 times",
    "residual": "it alone must read dense; so does add",
    "output": "it alone must read dense; so does the output of the model",
    "training": f"{MOVING}it predicts by those of the batch",
    "ours by batch": f"{MOVING}it predicts by those of the batch",
    "axis": "it must normalize the channels of dense, axis 2; its axis is 1",
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_folded(kind):
    message = re.escape(f"bn1 cannot be folded: {REFUSED[kind]}")
    with pytest.raises(ValueError, match=f"^{message}$"):
        bn.fold_batch_norm(wrong(kind), rng.normal(size=(3, 4, 5)))


def test_what_is_not_built_cannot_be_folded():
    model = keras.Sequential([nn.Dense(5), nn.BatchNormalization()])
    message = "the model must be built; it has not seen an input yet"
    with pytest.raises(ValueError, match=f"^{message}$"):
        bn.fold_batch_norm(model, columns)


# --- Properties ---------------------------------------------------------------------


@tried(8)
@given(
    st.floats(1e-6, 1),
    st.floats(0.01, 1),
    st.booleans(),
    st.booleans(),
    st.sampled_from(list(LINEAR)),
)
def test_there_and_back_and_folded(eps, momentum, center, scale, kind):
    layer = bn.builtin(6, 4, eps, momentum, center=center, scale=scale, name="bn")
    model = net(layer, LINEAR[kind](name="linear"), images)
    ours = bn.replace_batch_norm(model, bn.BatchNorm, images)
    [found] = bn.batch_norms(ours).values()
    assert found.settings["eps"] == eps
    assert found.settings["momentum"] == pytest.approx(momentum, rel=1e-12)
    back = bn.replace_batch_norm(ours, bn.builtin, images)
    equal(state(back), state(model))
    folded = folds(ours, images, 1e-12)
    assert proof.difference(model(images).numpy(), folded(images).numpy()) < 1e-12
