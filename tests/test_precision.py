"""float32 output within 1e-5 + 1.2e-7 |mean| / std of float64, whatever the mean."""

import numpy as np
import pytest
from conftest import load_or_skip

from bn_from_scratch import backends
from bn_from_scratch.compare import precision

CASES = [  # n is 73,728, 200,704 and 200,704
    (name, memory, shape)
    for name, orders in precision.MEMORY.items()
    for memory in orders
    for shape in ((128, 6, 24, 24), (64, 3, 56, 56), (200_704, 3))
    if memory == orders[0] or len(shape) == 4
]


@pytest.mark.parametrize("mean", [0.0, 1e2, 1e3, 1e4, -1e4])
@pytest.mark.parametrize(("name", "memory", "shape"), CASES)
def test_the_layer_keeps_its_bound(name, memory, shape, mean):
    bn = load_or_skip(name)
    X = precision.make_input(shape, mean, memory)
    layer = bn.BatchNorm(shape[1], len(shape))
    error = precision.error(bn, layer, X, precision.reference(X))
    assert error <= precision.bound(mean), f"{error:.1e}"


@pytest.mark.parametrize("name", backends.NAMES)
def test_the_corrected_mean_is_as_good_as_rounding_it(name):
    """Within half a unit in the last place; a plain float32 mean was at 0.8 to 5.4."""
    bn = load_or_skip(name)
    X = np.random.default_rng(0).normal(1e4, 1, (1000, 50)).astype(np.float32)
    unit = np.spacing(np.float32(1e4))
    got = bn.probe(bn.BatchNorm(50, 2, momentum=1.0), X, X, training=True)
    error = np.max(np.abs(got["moving_mean"] - X.mean(0, dtype=np.float64)))
    assert error <= 0.51 * unit, f"{error / unit:.2f} units"


def test_a_one_pass_variance_does_not():
    """The bound tells a cancelling variance from a good one."""
    X = precision.make_input((64, 3, 56, 56), 1e4)
    axes = (0, 2, 3)
    mean = X.mean(axes, keepdims=True)
    var = np.square(X).mean(axes, keepdims=True) - np.square(mean)
    Y = (X - mean) / np.sqrt(np.maximum(var, 0) + 1e-5)
    assert np.max(np.abs(Y - precision.reference(X))) > 100 * precision.bound(1e4)


@pytest.mark.parametrize("name", ["tensorflow", "jax"])
def test_compiled_code_keeps_the_bound(name):
    """A compiler must not fold the correction of the mean away."""
    bn = load_or_skip(name)
    X = precision.make_input((64, 3, 56, 56), 1e4)
    own, one, zero = np.moveaxis(X, 1, -1), np.ones(3, "f4"), np.zeros(3, "f4")

    def forward(X):
        return bn.batch_norm(X, one, zero, zero, one, training=True)[0]

    if name == "jax":
        import jax

        Y = np.array(jax.jit(forward)(own))
    else:
        import tensorflow as tf

        Y = tf.function(forward, jit_compile=True)(tf.constant(own)).numpy()
    error = np.max(np.abs(np.moveaxis(Y, -1, 1) - precision.reference(X)))
    assert error <= precision.bound(1e4)


@pytest.mark.parametrize("norm", ["scratch", "fused"])
@pytest.mark.parametrize("name", backends.NAMES)
def test_dX_in_16_bits_is_rounded_once(name, norm):
    """X that is promoted twice has two gradients, each rounded: 1.1e-3 in (3, 3)."""
    load_or_skip(name)
    rows = precision.compare_gradients([name], [norm])
    for row in rows:
        assert row["error"] <= row["bound"], row
    assert {tuple(row["shape"]) for row in rows} == {(3, 3), (64, 6, 7, 7)}
