"""The spec: against numbers worked by hand, finite differences and identities."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from bn_from_scratch import spec
from bn_from_scratch.compare.layer import make_case

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
    ("ndim", "channel_axis", "axes", "shape"),
    [
        (2, 1, (0,), (1, -1)),
        (2, -1, (0,), (1, -1)),
        (3, 1, (0, 2), (1, -1, 1)),
        (4, 1, (0, 2, 3), (1, -1, 1, 1)),
        (4, -1, (0, 1, 2), (1, 1, 1, -1)),
    ],
)
def test_the_axis_rule(ndim, channel_axis, axes, shape):
    assert spec.reduce_axes(ndim, channel_axis) == axes
    assert spec.param_shape(ndim, channel_axis) == shape


def test_an_empty_batch_leaves_the_moving_averages_alone():
    _, _, state = make_case((7, 5))
    Y, mean, var = run(np.zeros((0, 5)), state, training=True)
    assert Y.shape == (0, 5)
    np.testing.assert_array_equal(mean, state["moving_mean"])
    np.testing.assert_array_equal(var, state["moving_var"])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((0, 2, 1e-5, 0.1), ValueError, "num_features must be at least 1; got 0"),
        ((5, 1, 1e-5, 0.1), ValueError, "num_dims must be at least 2; got 1"),
        ((5.0, 2, 1e-5, 0.1), TypeError, "num_features must be an integer; got 5.0"),
        ((5, "2", 1e-5, 0.1), TypeError, "num_dims must be an integer; got '2'"),
        ((5, 2, 0.0, 0.1), ValueError, "eps must be positive; got 0.0"),
        ((5, 2, 1e-5, 1.5), ValueError, "momentum must lie between 0 and 1; got 1.5"),
    ],
)
def test_check_layer(arguments, error, message):
    with pytest.raises(error) as caught:
        spec.check_layer(*arguments)
    assert str(caught.value) == message


def test_check_input_lets_unknown_sizes_pass():
    spec.check_input((None, 5), "float32", 1, 5, 2, training=True)
