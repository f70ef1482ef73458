"""float32 output within 1e-5 + 1.2e-7 |mean| / std of float64, whatever the mean."""

import numpy as np
import pytest
from conftest import load_or_skip

from bn_from_scratch import backends, spec
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


def scaled(scale):
    """float32 X [8, 4, 6, 6] of this scale, and the spec's Y and moving variance."""
    rng = np.random.default_rng(0)
    X = (scale * rng.normal(size=(8, 4, 6, 6))).astype(np.float32)
    one, zero = np.ones(4), np.zeros(4)
    Y, _, var = spec.batch_norm(X, one, zero, zero, one, training=True)
    return X, Y, var


LAYERS = {
    "plain": lambda bn: bn.BatchNorm(4, 4),
    "fused": lambda bn: bn.FusedBatchNorm(4, 4),
    "ghost": lambda bn: bn.GhostBatchNorm(4, 4, ghost_size=8),
    "cumulative": lambda bn: bn.BatchNorm(4, 4, momentum=None, correction=1),
}
OVERFLOW = "must add up within float32; X reaches"


@pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)
@pytest.mark.parametrize("name", backends.NAMES)
def test_any_scale_is_right_or_refused(name, make):
    """Output and moving variance; a batch that is refused moves nothing."""
    if name == "jax" and make not in (LAYERS["plain"], LAYERS["fused"]):
        pytest.skip("JAX compiles each anew")
    bn, right = load_or_skip(name), []
    for scale in (1e17, 3e18, 1e20, 1e37):
        X, Y, var = scaled(scale)
        layer = make(bn)
        try:
            got = bn.probe(layer, X, np.zeros_like(X), training=True)
        except ValueError as error:
            assert OVERFLOW in str(error)
            continue
        right.append(scale)
        assert np.max(np.abs(got["Y"] - Y)) <= precision.bound(0)
        if "moving_count" not in got:  # it has another moving variance
            np.testing.assert_allclose(got["moving_var"], var, rtol=1e-5)
        assert np.all(np.isfinite(got["moving_var"]))
    assert 1e17 in right and 1e37 not in right


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("name", backends.NAMES)
def test_what_is_no_number_passes(name, value):
    """In mixed precision a step with infinity is skipped, by those who look for it."""
    bn, (X, _, _) = load_or_skip(name), scaled(1)
    X[3, 2, 1, 0] = value
    for make in (LAYERS["plain"], LAYERS["fused"]):
        Y = bn.probe(make(bn), X, np.zeros_like(X), training=True)["Y"]
        assert np.all(np.isnan(Y[:, 2]))
        assert np.all(np.isfinite(Y[:, [0, 1, 3]]))


def test_compiled_code_answers_nan():
    """It cannot raise; the output of an infinite variance would be beta."""
    bn, jax = load_or_skip("jax"), pytest.importorskip("jax")
    X = np.moveaxis(scaled(1e20)[0], 1, -1)
    for make in (LAYERS["plain"], LAYERS["fused"]):
        layer = make(bn)
        variables = layer.init(jax.random.key(0), X, training=False)
        call = jax.jit(lambda X, f=layer, v=variables: f.apply(v, X, True, None, False))
        assert np.all(np.isnan(call(X)))
