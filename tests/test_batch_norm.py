"""The layer and the pure functions of each backend, against the spec."""

import importlib
import re

import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from properties import tried
from tolerances import TOLERANCE

from bn_from_scratch import spec
from bn_from_scratch.backends.norms import norm_layer
from bn_from_scratch.compare import layer as comparison

SHAPES = {"2-D": (9, 5), "3-D": (6, 3, 4), "4-D": (5, 4, 3, 2), "5-D": (4, 2, 3, 2, 5)}
STEPS = 3


def make(bn, norm, shape, dtype, **options):
    return norm_layer(bn, norm)(shape[1], len(shape), dtype=dtype, **options)


def assert_like_the_spec(bn, layer, case, tolerance, *, training, setting=None, **kw):
    X, dY, state = case
    options = {"training": training, "steps": STEPS}
    got = bn.probe(layer, X, dY, **options, state=state)
    want = comparison.expected(X, dY, state, **options, setting=setting, **kw)
    for name, value in want.items():
        assert got[name].dtype == X.dtype
        difference = comparison.difference(got[name], value)
        assert difference <= tolerance, f"{name} differs by {difference:.1e}"


@pytest.mark.parametrize("training", [True, False], ids=["training", "prediction"])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_layer(bn, norm, dtype, shape, training):
    case = comparison.make_case(shape, dtype=dtype)
    layer = make(bn, norm, shape, dtype)
    setting = bn.builtin_setting() if norm == "builtin" else None
    tolerance = TOLERANCE[dtype]
    assert_like_the_spec(bn, layer, case, tolerance, training=training, setting=setting)


def test_eps_and_momentum(bn, norm):
    case = comparison.make_case((9, 5))
    layer = make(bn, norm, (9, 5), "float64", eps=0.5, momentum=0.3)
    setting = {"momentum": 0.3}
    if norm == "builtin":
        setting = bn.builtin_setting(0.3)
    options = {"training": True, "setting": setting, "eps": 0.5}
    assert_like_the_spec(bn, layer, case, TOLERANCE["float64"], **options)


def test_a_new_layer_starts_neutral(bn, norm):
    """gamma 1, beta 0, moving mean 0, moving variance 1: prediction returns X."""
    X, dY, _ = comparison.make_case((9, 5))
    layer = make(bn, norm, (9, 5), "float64")
    got = bn.probe(layer, X, dY, training=False)
    np.testing.assert_allclose(got["Y"], X / np.sqrt(1 + spec.EPS), rtol=1e-14)
    for name in ("Y", "dX", "moving_mean", "moving_var"):
        assert got[name].dtype == np.float64, name
    np.testing.assert_array_equal(got["moving_mean"], np.zeros(5))
    np.testing.assert_array_equal(got["moving_var"], np.ones(5))


def test_probe_goes_on_from_the_state_it_left(bn, norm):
    if bn.__package__.endswith("jax"):
        pytest.skip("jax: a Flax module holds no state between calls")
    X, dY, state = comparison.make_case((9, 5))
    twice = make(bn, norm, (9, 5), "float64")
    bn.probe(twice, X, dY, training=True, state=state)
    got = bn.probe(twice, X, dY, training=True)
    once = make(bn, norm, (9, 5), "float64")
    want = bn.probe(once, X, dY, training=True, steps=2, state=state)
    for name in ("moving_mean", "moving_var"):
        np.testing.assert_array_equal(got[name], want[name])


ERRORS = {
    "rank": ((8, 6, 4), 6, 4, "this layer normalizes X with 4 axes; X has shape {X}"),
    "channels": (
        (8, 6, 4, 4),
        5,
        4,
        "expected 5 channels on axis {axis}; X has shape {X}",
    ),
    "one value": (
        (1, 5),
        5,
        2,
        "training needs more than one value per channel; X has shape {X}",
    ),
}


@pytest.mark.parametrize(
    ("shape", "num_features", "num_dims", "message"), ERRORS.values(), ids=ERRORS
)
def test_errors_at_the_door(bn, shape, num_features, num_dims, message):
    X = np.ones(shape)
    layer = bn.BatchNorm(num_features, num_dims, dtype="float64")
    channel_axis = core(bn).CHANNEL_AXIS % len(shape)
    own = tuple(np.moveaxis(X, 1, channel_axis).shape)
    with pytest.raises(ValueError) as caught:
        bn.probe(layer, X, X, training=True)
    wanted = message.format(X=own, axis=channel_axis)
    assert message_of(bn, caught) == wanted


def test_integers_are_refused(bn):
    layer = bn.BatchNorm(5, 2)
    with pytest.raises(TypeError) as caught:
        call(bn, layer, np.ones((4, 5), "int32"), training=False)
    start, _, dtype = message_of(bn, caught).rpartition(" X has dtype ")
    assert start == "batch norm takes floating-point X;"
    assert "int32" in dtype


def message_of(bn, caught):
    """The message alone: Keras puts lines of its own around it, and prints it bold."""
    lines = re.sub(r"\x1b\[\d+m", "", str(caught.value)).splitlines()
    return lines[2 if bn.__package__.endswith("tensorflow") else 0]


@pytest.mark.parametrize("arguments", [(0, 2), (5, 1)])
def test_errors_at_construction(bn, arguments):
    with pytest.raises(ValueError, match=r"^num_\w+ must be at least \d; got \d$"):
        bn.BatchNorm(*arguments)


def test_one_value_per_channel_is_fine_in_prediction(bn):
    X, dY, state = comparison.make_case((1, 5))
    layer = bn.BatchNorm(5, 2, dtype="float64")
    assert_like_the_spec(bn, layer, (X, dY, state), 1e-12, training=False)


def test_one_value_per_channel_is_an_error_in_prediction_by_the_batch(bn):
    X = np.ones((1, 5))
    layer = bn.BatchNorm(5, 2, dtype="float64", statistics="batch")
    with pytest.raises(ValueError) as caught:
        bn.probe(layer, X, X, training=False)
    wanted = "training needs more than one value per channel; X has shape (1, 5)"
    assert message_of(bn, caught) == wanted


@pytest.mark.parametrize("shape", [(0, 5), (0, 5, 3, 2)])
def test_an_empty_batch_leaves_the_moving_averages_alone(bn, shape):
    _, _, state = comparison.make_case((9, 5))
    layer = bn.BatchNorm(5, len(shape), dtype="float64")
    empty = np.zeros(shape)
    got = bn.probe(layer, empty, empty, training=True, state=state)
    assert got["Y"].shape == shape
    for name in ("moving_mean", "moving_var"):
        np.testing.assert_array_equal(got[name], state[name])


def core(bn):
    return importlib.import_module(f"{bn.__package__}.batch_norm")


def framework(bn):
    """NumPy -> the backend's array, and back, in its own layout."""
    name = bn.__package__.rpartition(".")[2]
    if name == "torch":
        import torch

        return torch.from_numpy, lambda v: v.detach().numpy()
    if name == "tensorflow":
        import tensorflow as tf

        return tf.constant, np.array
    if name == "jax":
        import jax.numpy as jnp

        return jnp.asarray, np.array
    from mxnet import np as mnp

    return (lambda v: mnp.array(v, dtype=v.dtype)), (lambda v: v.asnumpy())


def call(bn, layer, X, training):
    """The layer on NumPy X [N, C], in its own idiom."""
    to, _ = framework(bn)
    name = bn.__package__.rpartition(".")[2]
    if name == "torch":
        return layer.train(training)(to(X))
    if name == "tensorflow":
        return layer(to(X), training=training)
    if name == "jax":
        import jax

        return layer.init_with_output(jax.random.key(0), to(X), training)[0]
    layer.initialize()
    return layer(to(X))


def test_functions_are_pure(bn):
    """No argument changes, whatever the mode."""
    to, back = framework(bn)
    X, _, state = comparison.make_case((9, 5))
    arguments = [to(v) for v in (X, *state.values())]
    for training in (True, False):
        bn.batch_norm(*arguments, training=training)
    for argument, value in zip(arguments, (X, *state.values()), strict=True):
        np.testing.assert_array_equal(back(argument), value)


@pytest.mark.parametrize("shape", [(9, 5), (5, 4, 3, 2), (0, 5)], ids=str)
@pytest.mark.parametrize("training", [True, False], ids=["training", "prediction"])
def test_the_function_is_that_of_the_spec(bn, training, shape):
    to, back = framework(bn)
    X, _, state = comparison.make_case((9, *shape[1:]))
    X, channel_axis = X[: shape[0]], core(bn).CHANNEL_AXIS
    own = to(np.ascontiguousarray(np.moveaxis(X, 1, channel_axis)))
    options = {"training": training, "eps": 0.5, "momentum": 0.3}
    Y, *moved = bn.batch_norm(own, *map(to, state.values()), **options)
    want, *wanted = spec.batch_norm(X, *state.values(), **options)
    got = np.moveaxis(back(Y), channel_axis, 1)
    for value, exact in zip((got, *map(back, moved)), (want, *wanted), strict=True):
        np.testing.assert_allclose(value, exact, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("correction", [0, 1])
def test_the_variance_of_one_value_is_0(bn, correction):
    """Also the unbiased one: not 0 / 0, which a sum would keep for ever."""
    to, back = framework(bn)
    cumulate = importlib.import_module(f"{bn.__package__}.statistics").cumulate
    none, one = np.zeros(2), np.array([3.0, 5.0])
    given = none, none, np.zeros(()), one, none, np.ones(())
    got = cumulate(*map(to, given), correction)
    for value, wanted in zip(got, (one, none, 1), strict=True):
        np.testing.assert_array_equal(back(value), wanted)


def test_training_has_no_default(bn):
    to, _ = framework(bn)
    X, _, state = comparison.make_case((9, 5))
    with pytest.raises(TypeError, match="training"):
        bn.batch_norm(*(to(v) for v in (X, *state.values())))


@tried(15, HealthCheck.function_scoped_fixture)
@given(
    sizes=st.tuples(st.integers(2, 7), st.integers(1, 5)),
    space=st.lists(st.integers(1, 4), max_size=3),
    mean=st.floats(-100, 100),
    std=st.floats(0.01, 100),
    seed=st.integers(0, 9),
)
def test_three_seams(bn, sizes, space, mean, std, seed):
    """batch_stats, normalize and update_moving, one by one, on any shape and scale."""
    to, back = framework(bn)
    functions = core(bn)
    rng = np.random.default_rng(seed)
    X = rng.normal(mean, std, (*sizes, *space))
    gamma, beta = rng.normal(size=(2, sizes[1]))
    own = to(np.ascontiguousarray(np.moveaxis(X, 1, functions.CHANNEL_AXIS)))

    stats = functions.batch_stats(own)
    want = spec.batch_stats(X)
    scale = np.maximum(np.abs(want[0]), 1) ** 2
    for got, value in zip(stats, want, strict=True):
        np.testing.assert_allclose(
            back(got), value, rtol=1e-12, atol=1e-12 * max(scale)
        )

    Y = functions.normalize(own, *map(to, (*want, gamma, beta)), eps=0.01)
    Y = np.moveaxis(back(Y), functions.CHANNEL_AXIS, 1)
    wanted = spec.normalize(X, *want, gamma, beta, eps=0.01)
    np.testing.assert_allclose(Y, wanted, rtol=1e-12, atol=1e-11)

    moved = functions.update_moving(*map(to, (gamma, beta, *want)), 0.3)
    for got, value in zip(
        moved, spec.update_moving(gamma, beta, *want, 0.3), strict=True
    ):
        np.testing.assert_allclose(back(got), value, rtol=1e-12, atol=1e-12)


def test_float16_uses_float32_statistics(bn):
    """A standard deviation of 300 overflows a variance taken in float16."""
    X, dY, state = comparison.make_case((64, 5))
    X = (300 * X).astype("float16")
    state = {name: value.astype("float32") for name, value in state.items()}
    layer = bn.BatchNorm(5, 2, dtype="float16")  # Keras answers in the layer's dtype
    for training in (True, False):
        got = bn.probe(layer, X, dY.astype("float16"), training=training, state=state)
        want = comparison.expected(X, dY, state, training=training)
        assert got["Y"].dtype == np.float16
        assert got["moving_var"].dtype == np.float32
        for name, bound in (("Y", "float16"), ("moving_mean", "float32")):
            difference = comparison.difference(got[name], want[name])
            assert difference <= TOLERANCE[bound]
        difference = comparison.difference(got["moving_var"], want["moving_var"])
        assert difference <= TOLERANCE["float32"]
