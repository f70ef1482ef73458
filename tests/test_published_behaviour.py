"""The published behaviour of Keras's and Flax's batch norms, held by our layers.

A table of cases by framework, written from their documentation: shapes, axes, masks,
mixed precision, what is trainable, replicas.  The framework's own layer is the oracle:
output in training, what it then stores, output in prediction.
"""

import numpy as np
import pytest
from conftest import load_or_skip

rng = np.random.default_rng(0)
MASK = np.arange(6) < [[6], [4], [2], [5]]


def batch(*shape):
    return rng.normal(3, 2, shape).astype("float32")


# --- Keras ---------------------------------------------------------------------------

# case: (shape of X, our class, our options, Keras's, arguments of the call)
KERAS = {
    "vectors": ((8, 3), "BatchNorm", {}, {}, {}),
    "sequences": ((4, 6, 3), "BatchNorm", {}, {}, {}),
    "images": ((2, 4, 5, 3), "BatchNorm", {}, {}, {}),
    "volumes": ((2, 3, 4, 5, 3), "BatchNorm", {}, {}, {}),
    "axis 1": ((2, 3, 4, 5), "BatchNorm", {"axis": 1}, {"axis": 1}, {}),
    "no center, no scale": (
        (8, 3),
        "BatchNorm",
        {"center": False, "scale": False},
        {"center": False, "scale": False},
        {},
    ),
    "initializers": (
        (8, 3),
        "BatchNorm",
        {"moving_mean_initializer": "ones", "moving_var_initializer": "zeros"},
        {"moving_mean_initializer": "ones", "moving_variance_initializer": "zeros"},
        {},
    ),
    "a mask": ((4, 6, 3), "BatchNorm", {}, {}, {"mask": MASK}),
    "a mask, fused": ((4, 6, 3), "FusedBatchNorm", {}, {}, {"mask": MASK}),
    "a mask, axis 1": (
        (4, 6, 3),
        "BatchNorm",
        {"axis": 1},
        {"axis": 1},
        {"mask": MASK},
    ),
    "mixed precision": (
        (8, 3),
        "BatchNorm",
        {"dtype": "mixed_float16"},
        {"dtype": "mixed_float16"},
        {},
    ),
    "not trainable": (
        (8, 3),
        "BatchNorm",
        {"trainable": False},
        {"trainable": False},
        {},
    ),
    "synchronized": ((8, 3), "SyncBatchNorm", {}, {"synchronized": True}, {}),
}


@pytest.mark.parametrize("case", KERAS)
def test_keras(case):
    bn = load_or_skip("tensorflow")
    keras = pytest.importorskip("keras")
    shape, name, options, theirs, call = KERAS[case]
    X, settings = batch(*shape), {"epsilon": 1e-3, "momentum": 0.7}
    layer = getattr(bn, name)(eps=1e-3, momentum=0.3, **options)
    native = keras.layers.BatchNormalization(**settings, **theirs)
    for training in (True, True, False):
        got, want = (each(X, training=training, **call) for each in (layer, native))
        assert got.dtype == want.dtype
        np.testing.assert_allclose(got, want, rtol=2e-3, atol=2e-5)
    assert len(layer.trainable_weights) == len(native.trainable_weights)
    for v, other in zip(layer.weights, native.weights, strict=True):
        assert v.dtype == other.dtype
        np.testing.assert_allclose(v, other, rtol=1e-4, atol=1e-5)


def test_keras_model_with_several_inputs_survives_a_file(tmp_path):
    bn = load_or_skip("tensorflow")
    keras = pytest.importorskip("keras")
    inputs, layer = [keras.Input((3,)), keras.Input((3,))], bn.BatchNorm()
    model = keras.Model(inputs, keras.layers.Add()([layer(X) for X in inputs]))
    given = [batch(8, 3), batch(8, 3)]
    model(given, training=True)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(again(given), model(given))


# --- Flax ----------------------------------------------------------------------------

# case: (shape of X, our class, our options, Flax's, arguments of the call)
FLAX = {
    "vectors": ((8, 3), "BatchNorm", {}, {}, {}),
    "images": ((2, 4, 5, 3), "BatchNorm", {}, {}, {}),
    "several axes": ((4, 6, 3), "BatchNorm", {"axis": (1, 2)}, {"axis": (1, 2)}, {}),
    "no bias, no scale": (
        (8, 3),
        "BatchNorm",
        {"center": False, "scale": False},
        {"use_bias": False, "use_scale": False},
        {},
    ),
    "a mask": ((4, 6, 3), "BatchNorm", {}, {}, {"mask": MASK[:, :, None]}),
    "a mask, fused": ((4, 6, 3), "FusedBatchNorm", {}, {}, {"mask": MASK[:, :, None]}),
}


@pytest.mark.parametrize("case", FLAX)
def test_flax(case):
    bn = load_or_skip("jax")
    jax, nn = pytest.importorskip("jax"), pytest.importorskip("flax.linen")
    shape, name, options, theirs, call = FLAX[case]
    X = batch(*shape)
    layer = getattr(bn, name)(eps=1e-3, momentum=0.3, **options)
    settings = {"epsilon": 1e-3, "momentum": 0.7, "use_fast_variance": False}
    native = nn.BatchNorm(**settings, **theirs)

    def run(module, mode):
        """Init leaves the statistics alone; training moves them; prediction reads."""
        variables = module.init(jax.random.key(0), X, **mode(False))
        change = {"mutable": ["batch_stats"]}
        Y, moved = module.apply(variables, X, **mode(True), **call, **change)
        return Y, moved, module.apply(variables | moved, X, **mode(False))

    got = jax.jit(lambda: run(layer, lambda training: {"training": training}))()
    want = jax.jit(
        lambda: run(native, lambda training: {"use_running_average": not training})
    )()
    pairs = zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True)
    for v, other in pairs:
        assert v.dtype == other.dtype
        np.testing.assert_allclose(v, other, rtol=1e-4, atol=1e-5)
