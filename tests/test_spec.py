"""The spec: against numbers worked by hand, finite differences and identities."""

import numpy as np
import pytest
from derivatives import gradients
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from bn_from_scratch import spec
from bn_from_scratch.case import make_case

SHAPES = [(7, 5), (6, 3, 4), (5, 4, 3, 2), (4, 2, 3, 2, 5)]


def run(X, state, **options):
    names = "gamma", "beta", "moving_mean", "moving_var"
    return spec.batch_norm(X, *(state[name] for name in names), **options)


def test_by_hand():
    X = np.array([[1.0], [3.0], [5.0], [7.0]])  # mean 4, variance 5
    Y, moving_mean, moving_var = spec.batch_norm(
        X, [2.0], [1.0], [10.0], [20.0], training=True, eps=4.0, momentum=0.25
    )
    np.testing.assert_allclose(Y[:, 0], [-1, 1 - 2 / 3, 1 + 2 / 3, 3], rtol=1e-15)
    assert moving_mean == [0.75 * 10 + 0.25 * 4]
    assert moving_var == [0.75 * 20 + 0.25 * 5]


def test_correction_stores_the_unbiased_variance_and_normalizes_with_the_biased():
    X, _, state = make_case((7, 5))
    Y, _, biased = run(X, state, training=True, momentum=1.0)
    Y1, _, unbiased = run(X, state, training=True, momentum=1.0, correction=1)
    np.testing.assert_allclose(unbiased, np.var(X, axis=0, ddof=1), rtol=1e-14)
    np.testing.assert_allclose(biased, np.var(X, axis=0), rtol=1e-14)
    np.testing.assert_array_equal(Y, Y1)


def test_prediction_uses_the_moving_statistics_and_keeps_them():
    X, _, state = make_case((7, 5))
    Y, mean, var = run(X, state, training=False)
    std = np.sqrt(state["moving_var"] + spec.EPS)
    X_hat = (X - state["moving_mean"]) / std
    np.testing.assert_allclose(Y, state["gamma"] * X_hat + state["beta"], rtol=1e-13)
    np.testing.assert_array_equal(mean, state["moving_mean"])
    np.testing.assert_array_equal(var, state["moving_var"])


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_backward_is_the_derivative_of_forward(shape, training):
    X, dY, state = make_case(shape)
    moving = state["moving_mean"], state["moving_var"]
    gradients = spec.batch_norm_backward(
        dY, X, state["gamma"], *moving, training=training
    )
    inputs = {"X": X, "gamma": state["gamma"], "beta": state["beta"]}
    for (name, value), gradient in zip(inputs.items(), gradients, strict=True):

        def objective(v, name=name):
            changed = {"X": X, **state, name: v}
            return np.sum(dY * run(changed.pop("X"), changed, training=training)[0])

        numeric = finite_differences(objective, value)
        np.testing.assert_allclose(gradient, numeric, rtol=1e-6, atol=1e-8)


def test_the_moving_averages_carry_no_derivative():
    """Where X has one, as a complex step, they are those of its value."""
    X, dX, state = make_case((7, 5))
    Y, *moving = run(X + 1e-30j * dX, state, training=True)
    assert np.iscomplexobj(Y)
    assert not any(np.iscomplexobj(v) for v in moving)


def finite_differences(f, x, h=1e-3):
    """The gradient of f by central differences of fourth order."""
    gradient = np.empty_like(x)
    for i in np.ndindex(x.shape):
        unit = np.zeros_like(x)
        unit[i] = h
        near, far = f(x + unit) - f(x - unit), f(x + 2 * unit) - f(x - 2 * unit)
        gradient[i] = (8 * near - far) / (12 * h)
    return gradient


def test_the_gradient_of_the_sum_is_zero():
    X, _, state = make_case((7, 5, 3))
    moving = state["moving_mean"], state["moving_var"]
    dX, _, _ = spec.batch_norm_backward(
        np.ones_like(X), X, state["gamma"], *moving, training=True
    )
    np.testing.assert_allclose(dX, 0, atol=1e-13)


shapes = st.tuples(
    st.integers(2, 6), st.integers(1, 4), st.integers(1, 4), st.integers(1, 4)
)
numbers = st.floats(-1e3, 1e3, allow_nan=False)
inputs = shapes.flatmap(lambda shape: hnp.arrays(np.float64, shape, elements=numbers))


@given(X=inputs, shift=numbers, scale=st.floats(0.1, 10))
def test_shifting_and_scaling_the_input_leaves_the_output(X, shift, scale):
    """Scaling X by s is the same as dividing eps by s^2."""
    one, zero = np.ones(X.shape[1]), np.zeros(X.shape[1])
    state = {"gamma": one, "beta": zero, "moving_mean": zero, "moving_var": one}
    Y = run(X, state, training=True, eps=1.0)[0]
    moved = run(scale * (X + shift), state, training=True, eps=scale**2)[0]
    np.testing.assert_allclose(moved, Y, atol=1e-8)


@given(X=inputs)
def test_the_output_has_mean_beta_and_variance_below_gamma_squared(X):
    C = X.shape[1]
    state = {"gamma": np.full(C, 2.0), "beta": np.full(C, 3.0)}
    state |= {"moving_mean": np.zeros(C), "moving_var": np.ones(C)}
    Y = run(X, state, training=True)[0]
    axes = spec.reduce_axes(X.ndim, spec.CHANNEL_AXIS)
    np.testing.assert_allclose(Y.mean(axes), 3, atol=1e-8)
    assert np.all(Y.var(axes) <= 4 * (1 + 1e-9))


@pytest.mark.parametrize(
    ("shape", "axis", "axes", "kept"),
    [
        ((8, 5), 1, (0,), (1, 5)),
        ((8, 5), -1, (0,), (1, 5)),
        ((8, 5, 3), 1, (0, 2), (1, 5, 1)),
        ((8, 5, 3, 2), 1, (0, 2, 3), (1, 5, 1, 1)),
        ((8, 5, 3, 2), -1, (0, 1, 2), (1, 1, 1, 2)),
        ((8, 5, 3, 2), (-1, 1), (0, 2), (1, 5, 1, 2)),
        ((8, 5, 3, 2), [2], (0, 1, 3), (1, 1, 3, 1)),
    ],
)
def test_the_axis_rule(shape, axis, axes, kept):
    assert spec.reduce_axes(len(shape), axis) == axes
    assert spec.param_shape(shape, axis) == kept
    assert spec.stats_shape(shape, axis) == tuple(size for size in kept if size > 1)
    n = spec.values_per_channel(shape, axis)
    assert n == np.prod(shape) / np.prod(kept)


@pytest.mark.parametrize("axis", [0, -1, (1, 3), (2, 0)])
def test_statistics_of_any_axis(axis):
    X, dY, state = make_case((5, 4, 3, 2), axis=axis)
    axes = spec.reduce_axes(4, axis)
    mean, var = spec.batch_stats(X, axis)
    np.testing.assert_allclose(mean, X.mean(axes), rtol=1e-14)
    np.testing.assert_allclose(var, X.var(axes), rtol=1e-14)
    inputs = {k: state[k] for k in ("gamma", "beta")}
    moving = state["moving_mean"], state["moving_var"]

    def forward(X, gamma, beta):
        return spec.batch_norm(X, gamma, beta, *moving, training=True, axis=axis)[0]

    numeric = gradients(forward, dY, X=X, **inputs)
    exact = spec.batch_norm_backward(
        dY, X, state["gamma"], *moving, training=True, axis=axis
    )
    for got, want in zip(exact, numeric.values(), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-13)


# --- Statistics of some values, and of many parts ------------------------------------


def test_masked_statistics_are_those_of_the_valid_values():
    X, _, _ = make_case((9, 5, 4))
    mask = np.random.default_rng(0).random((9, 1, 4)) < 0.5
    mean, var, n = spec.masked_stats(X, mask)
    valid = np.moveaxis(X, 1, -1)[mask[:, 0]]
    assert n == len(valid) == mask.sum()
    np.testing.assert_allclose(mean, valid.mean(0), rtol=1e-14)
    np.testing.assert_allclose(var, valid.var(0), rtol=1e-14)


def test_no_valid_value():
    mean, var, n = spec.masked_stats(np.ones((4, 2)), np.zeros((4, 1), bool))
    assert (n, *mean, *var) == (0, 0, 0, 0, 0)


parts = st.lists(
    st.integers(1, 5).flatmap(
        lambda n: hnp.arrays(np.float64, (n, 3), elements=numbers)
    ),
    min_size=1,
    max_size=5,
)


@given(parts=parts)
def test_the_law_of_total_variance(parts):
    """Parts of any sizes, pooled, are the whole."""
    whole = np.concatenate(parts)
    stats = [(part.mean(0), part.var(0)) for part in parts]
    mean, var = (np.stack(v) for v in zip(*stats, strict=True))
    mean, var, n = spec.pool(mean, var, np.array([len(part) for part in parts]))
    assert n == len(whole)
    np.testing.assert_allclose(mean, whole.mean(0), rtol=1e-12, atol=1e-9)
    np.testing.assert_allclose(var, whole.var(0), rtol=1e-12, atol=1e-8)


def test_parts_without_values_count_for_nothing():
    mean, var = np.array([[1.0], [5.0]]), np.array([[2.0], [7.0]])
    assert spec.pool(mean, var, np.array([3, 0])) == ([1], [2], 3)
    assert spec.pool(mean, var, np.array([0, 0])) == ([0], [0], 0)


@pytest.mark.parametrize("correction", [0, 1])
@given(parts=parts)
def test_cumulative_averages_are_those_of_all_values(correction, parts):
    parts = [np.concatenate([part, part + 1]) for part in parts]  # two values at least
    state = np.full(3, 4.0), np.full(3, 9.0), 0  # what they start at does not matter
    for part in parts:
        stats = part.mean(0), part.var(0), len(part)
        state = spec.cumulate(*state, *stats, correction)
    whole = np.concatenate(parts)
    np.testing.assert_allclose(state[0], whole.mean(0), rtol=1e-12, atol=1e-9)
    want = whole.var(0, ddof=correction)
    np.testing.assert_allclose(state[1], want, rtol=1e-11, atol=1e-8)
    assert state[2] == len(whole)


@pytest.mark.parametrize("correction", [0, 1])
def test_the_variance_of_one_value_is_0(correction):
    """Also the unbiased one: not 0 / 0."""
    none, one = np.zeros(2), np.array([3.0, 5.0])
    got = spec.cumulate(none, none, 0, one, none, 1, correction)
    for value, wanted in zip(got, (one, none, 1), strict=True):
        np.testing.assert_array_equal(value, wanted)


# --- Variants ------------------------------------------------------------------------


def test_ghost_batches():
    X = np.arange(6)
    contiguous = [list(group) for group in spec.ghost_batches(X, 2)]
    assert contiguous == [[0, 1], [2, 3], [4, 5]]
    strided = [list(group) for group in spec.ghost_batches(X, 2, "strided")]
    assert strided == [[0, 3], [1, 4], [2, 5]]


def test_renorm_unclipped_leads_to_the_moving_statistics():
    """r and d cancel the normalization: Y is what prediction would give."""
    X, _, state = make_case((9, 5))
    gamma, beta = state["gamma"], state["beta"]
    moving = state["moving_mean"], state["moving_var"]
    mean, var = spec.batch_stats(X)
    like = moving[0], np.sqrt(moving[1] + spec.EPS)
    r, d = spec.renorm_factors(mean, var, *like, spec.EPS, np.inf, np.inf, 0)
    factors = spec.scale_and_shift(gamma, beta, r, d)
    Y = spec.normalize(X, mean, var, *factors, spec.EPS)
    want = spec.normalize(X, *moving, gamma, beta, spec.EPS)
    np.testing.assert_allclose(Y, want, rtol=1e-12, atol=1e-13)


def test_renorm_factors_by_hand():
    """std 2 and mean 3 against std 4 and mean 1: r = 1/2, d = 1/2, clipped."""
    given = np.array([3.0]), np.array([4.0]), np.array([1.0]), np.array([4.0]), 0.0
    assert spec.renorm_factors(*given, r_max=3, d_max=5) == ([0.5], [0.5])
    assert spec.renorm_factors(*given, r_max=1.25, d_max=0.4) == ([0.8], [0.4])
    assert spec.renorm_factors(*given, r_max=3, d_max=5, r_min=0.7) == ([0.7], [0.5])


def test_renorm_factors_on_both_sides():
    """std 2, 1, 8 against 2; mean 3, 0, -9 against 1: low, within and high."""
    mean, var = np.array([3.0, 0.0, -9.0]), np.array([4.0, 1.0, 64.0])
    given = mean, var, np.ones(3), np.full(3, 2.0), 0.0
    r, d = spec.renorm_factors(*given, r_max=3, d_max=2)
    np.testing.assert_array_equal(r, [1, 0.5, 3])
    np.testing.assert_array_equal(d, [1, -0.5, -2])
    r, d = spec.renorm_factors(*given, r_max=1.25, d_max=0.75)
    np.testing.assert_array_equal(r, [1, 0.8, 1.25])
    np.testing.assert_array_equal(d, [0.75, -0.5, -0.75])
    r, _ = spec.renorm_factors(*given, r_max=1.25, d_max=0.75, r_min=0.25)
    np.testing.assert_array_equal(r, [1, 0.5, 1.25])


def test_renorm_factors_carry_no_derivative():
    mean, var = np.array([3.0 + 1e-30j]), np.array([4.0 + 1e-30j])
    like = np.array([2.0]), np.array([2.0])
    r, d = spec.renorm_factors(mean, var, *like, 0.0, 3, 5)
    assert not np.iscomplexobj(r)
    assert not np.iscomplexobj(d)


def test_scale_and_shift():
    X_hat, gamma, beta = np.array([-1.0, 2.0]), 3.0, 0.5
    gamma2, beta2 = spec.scale_and_shift(gamma, beta, scale=1.5, shift=-2.0)
    np.testing.assert_array_equal(
        gamma2 * X_hat + beta2, gamma * (1.5 * X_hat - 2) + beta
    )


def test_layer_norm_by_hand():
    X = np.array([[1.0, 3.0, 5.0, 7.0], [0.0, 0.0, 0.0, 8.0]])  # mean 4, 2; var 5, 12
    Y = spec.layer_norm(X, np.full(4, 2.0), np.ones(4), eps=4.0)
    np.testing.assert_allclose(Y[0], [-1, 1 - 2 / 3, 1 + 2 / 3, 3], rtol=1e-15)
    np.testing.assert_allclose(Y[1], [0, 0, 0, 4], atol=1e-15)


def test_layer_norm_of_a_transposed_matrix_is_batch_norm():
    X, _, _ = make_case((7, 5))
    one, zero = np.ones(7), np.zeros(7)
    Y = spec.batch_norm(X.T, one, zero, zero, one, training=True)[0]
    want = spec.layer_norm(X, np.ones(5), np.zeros(5))
    np.testing.assert_allclose(Y.T, want, rtol=1e-14)


@pytest.mark.parametrize("axis", [1, -1, (1, 3)])
def test_layer_norm_over_these_axes_alone(axis):
    X, _, state = make_case((5, 4, 3, 2))
    gamma, beta = (state[k].reshape(1, 4, 1, 1) for k in ("gamma", "beta"))
    mean, var = (f(X, axis, keepdims=True) for f in (np.mean, np.var))
    want = gamma * (X - mean) / np.sqrt(var + spec.EPS) + beta
    Y = spec.layer_norm(X, state["gamma"], state["beta"], axis=axis)
    np.testing.assert_allclose(Y, want, rtol=1e-13, atol=1e-14)


def test_prediction_is_a_factor_and_a_shift():
    X, _, state = make_case((7, 5))
    names = "moving_mean", "moving_var", "gamma", "beta"
    factor, shift = spec.prediction(*(state[k] for k in names), eps=0.5)
    want = run(X, state, training=False, eps=0.5)[0]
    np.testing.assert_allclose(factor * X + shift, want, rtol=1e-13, atol=1e-14)


def test_quantize_by_hand():
    """2 bits: -1, 0 and 1 times the largest; 3 bits: thirds of it."""
    v = np.array([-3.0, -1.4, 0.9, 2.6])
    np.testing.assert_array_equal(spec.quantize(v, 2), [-3, 0, 0, 3])
    np.testing.assert_array_equal(spec.quantize(v, 3), [-3, -1, 1, 3])
    with np.errstate(invalid="raise"):
        np.testing.assert_array_equal(spec.quantize(np.zeros(3)), np.zeros(3))


def test_an_empty_batch_leaves_the_moving_averages_alone():
    _, _, state = make_case((7, 5))
    Y, mean, var = run(np.zeros((0, 5)), state, training=True)
    assert Y.shape == (0, 5)
    np.testing.assert_array_equal(mean, state["moving_mean"])
    np.testing.assert_array_equal(var, state["moving_var"])
