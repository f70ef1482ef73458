"""What `keras.Layer` asks of a layer, of each of ours: shapes, dtypes, wrappers, files.

By Keras's documentation of `keras.Layer`, and by what Keras tries on its own layers.
"""

import json

import numpy as np
import pytest
from conftest import load_or_skip

bn = load_or_skip("tensorflow")
tf = pytest.importorskip("tensorflow")
keras = pytest.importorskip("keras")
rng = np.random.default_rng(0)
X = rng.normal(3, 2, (4, 6, 3)).astype("float32")


@keras.saving.register_keras_serializable("test_keras_protocol")
def halve(gamma, beta, mean, var):
    return gamma / 2, beta - 1, mean, var


# name: (class, its own settings, how many variables learn, how many do not)
LAYERS = {
    "BatchNorm": (bn.BatchNorm, {}, 2, 2),
    "several axes": (bn.BatchNorm, {"axis": (1, -1)}, 2, 2),
    "axis 1": (bn.BatchNorm, {"axis": 1}, 2, 2),
    "no gamma, no beta": (bn.BatchNorm, {"scale": False, "center": False}, 0, 2),
    "all batches": (bn.BatchNorm, {"momentum": None}, 2, 3),
    "by the batch": (bn.BatchNorm, {"statistics": "batch"}, 2, 2),
    "ghost": (bn.GhostBatchNorm, {"ghost_size": 2}, 2, 2),
    "renorm": (bn.BatchRenorm, {"renorm_momentum": 0.1}, 2, 5),
    "adjust": (bn.AdjustedBatchNorm, {"adjustment": (1.5, 0.5)}, 2, 2),
    "sync": (bn.SyncBatchNorm, {}, 2, 2),
    "accumulate": (bn.AccumBatchNorm, {"steps": 2}, 2, 6),
    "freeze": (bn.FrozenBatchNorm, {}, 0, 4),
    "transform": (bn.TransformedBatchNorm, {"transform": halve}, 2, 2),
    "fused": (bn.FusedBatchNorm, {}, 2, 2),
    "mean only": (bn.MeanOnlyBatchNorm, {}, 2, 2),
    "var only": (bn.VarOnlyBatchNorm, {}, 2, 2),
    "layer norm": (bn.LayerNorm, {"num_features": 3}, 2, 0),
}
each_layer = pytest.mark.parametrize("name", LAYERS)


def make(name, **options):
    cls, settings, *_ = LAYERS[name]
    return cls(**settings, **options)


def train(name, layer, X, **options):
    """LayerNorm knows no training."""
    options |= {} if name == "layer norm" else {"training": True}
    return layer(X, **options)


@each_layer
def test_the_output_before_there_is_one(name):
    """Asked of a layer that is not built yet."""
    layer = make(name, dtype="mixed_float16")
    for shape in [(4, 6, 3), (None, 6, 3), [None, 6, 3], tf.TensorShape([None, 6, 3])]:
        assert layer.compute_output_shape(shape) == tuple(shape)
    spec = layer.compute_output_spec(keras.KerasTensor((None, 6, 3)))
    assert (spec.shape, spec.dtype) == ((None, 6, 3), "float16")
    assert not layer.built


@each_layer
def test_an_output_that_there_cannot_be(name):
    wide = LAYERS[name][1] | {"num_features": (6, 5) if name == "several axes" else 5}
    layer = LAYERS[name][0](**wide)
    if name == "several axes":
        message = "expected sizes (6, 5) on axes (1, 2)"
    else:
        message = f"expected 5 channels on axis {1 if name == 'axis 1' else 2}"
    message += "; X has shape (None, 6, 3)"
    asked = [
        lambda: layer.compute_output_shape((None, 6, 3)),
        lambda: layer.compute_output_spec(keras.KerasTensor((None, 6, 3))),
        lambda: layer(keras.Input((6, 3))),
    ]
    for ask in asked:
        with pytest.raises(ValueError) as raised:
            ask()
        assert message in str(raised.value)  # Keras puts lines around it


@each_layer
def test_a_call_before_there_is_data(name):
    layer = make(name)
    Y = layer(keras.Input((6, 3)))
    assert (Y.shape, Y.dtype) == ((None, 6, 3), "float32")
    assert layer.built
    _, _, learned, fixed = LAYERS[name]
    assert len(layer.trainable_weights) == learned
    assert len(layer.non_trainable_weights) == fixed
    assert layer(X).shape == X.shape


@pytest.mark.parametrize("shape", [(None, None), [4, None], tf.TensorShape([4, None])])
def test_the_channels_must_be_known(shape):
    with pytest.raises(ValueError) as raised:
        bn.BatchNorm().build(shape)
    given = tuple(shape)
    assert str(raised.value) == (
        f"the layer must know its channels on axis -1; X has shape {given}"
    )
    layer = bn.BatchNorm(5)  # or be told
    layer.build(shape)
    assert layer.gamma.shape == (5,)
    assert layer.compute_output_shape(shape) == given


# --- Dtypes --------------------------------------------------------------------------

INPUTS = {
    "float64 array": np.float64,
    "float32 array": np.float32,
    "float32": tf.float32,
    "float16": tf.float16,
    "bfloat16": tf.bfloat16,
    "float64": tf.float64,
}
POLICIES = {
    "float32": "float32",
    "float64": "float64",
    "float16": "float16",
    "mixed_float16": "float16",
    "mixed_bfloat16": "bfloat16",
}


def batch(kind):
    dtype = INPUTS[kind]
    return X.astype(dtype) if "array" in kind else tf.cast(X, dtype)


@pytest.mark.parametrize("kind", INPUTS)
@pytest.mark.parametrize("policy", POLICIES)
def test_the_output_has_the_compute_dtype(policy, kind):
    layer = bn.BatchNorm(dtype=policy)
    for training in (True, False):
        assert layer(batch(kind), training=training).dtype == POLICIES[policy]
    assert layer.call(batch(kind)).dtype == POLICIES[policy]  # as a wrapper does
    wide = "float64" if policy == "float64" else "float32"
    assert {v.dtype for v in layer.weights} == {wide}


@each_layer
def test_mixed_precision(name):
    """float16 out, from statistics in float32: as of the same values in float32."""
    layer, exact = (make(name, dtype=d) for d in ("mixed_float16", "float32"))
    half = X.astype("float16")
    Y, want = train(name, layer, half), train(name, exact, half)
    assert (Y.dtype, want.dtype) == ("float16", "float32")
    np.testing.assert_array_equal(Y, tf.cast(want, "float16"))
    for v, other in zip(layer.weights, exact.weights, strict=True):
        assert v.dtype == "float32"
        np.testing.assert_array_equal(v, other)
    assert train(name, make(name), X.astype("float64")).dtype == "float32"


def test_a_variable_as_input():
    v = tf.Variable(X)
    np.testing.assert_array_equal(bn.BatchNorm()(v), bn.BatchNorm()(X))


# --- Wrappers ------------------------------------------------------------------------


@each_layer
def test_in_a_time_distributed_layer(name):
    """A step in time is a batch: of [4, 3] here, six times."""
    if name in ("axis 1", "several axes"):
        pytest.skip("a step has two axes")
    layer, inner = make(name), make(name)
    outer = keras.layers.TimeDistributed(layer)
    model = keras.Sequential([keras.Input((6, 3)), outer])
    assert model.output_shape == (None, 6, 3)
    Y = model(X, training=True)
    steps = [train(name, inner, X[:, i]) for i in range(6)]
    np.testing.assert_allclose(Y, np.stack(steps, 1), rtol=1e-5, atol=1e-6)
    for v, want in zip(layer.weights, inner.weights, strict=True):
        np.testing.assert_allclose(v, want, rtol=1e-5)


# --- Files ---------------------------------------------------------------------------


@each_layer
def test_a_config_that_was_json(name):
    """A file knows no tuples."""
    layer = make(name)
    found = keras.saving.serialize_keras_object(layer)
    again = keras.saving.deserialize_keras_object(json.loads(json.dumps(found)))
    assert type(again) is type(layer)
    assert again.get_config() == layer.get_config()
    again.build((None, 6, 3))
    layer.build((None, 6, 3))
    shapes = [[v.shape for v in each.weights] for each in (layer, again)]
    assert shapes[0] == shapes[1]


# --- Masks ---------------------------------------------------------------------------

WORDS = np.array([[1, 2, 3, 0], [4, 1, 0, 0], [2, 2, 2, 2], [3, 0, 0, 0]])


def keras_statistics(axis, X, mask):
    """What Keras's own layer, which forgets all but this batch, stores."""
    layer = keras.layers.BatchNormalization(axis, momentum=0.0, epsilon=1e-5)
    Y = layer(X, training=True, mask=mask)
    return Y, layer.moving_mean, layer.moving_variance


@pytest.mark.parametrize("cls", [bn.BatchNorm, bn.FusedBatchNorm, bn.SyncBatchNorm])
@pytest.mark.parametrize(
    ("axis", "shape"), [(-1, (4, 4)), (1, (4, 4)), (-1, (4, 1)), (-1, (1, 4))]
)
def test_a_mask_as_keras_takes_it(cls, axis, shape):
    mask = np.broadcast_to(WORDS[: shape[0], : shape[1]] > 1, shape)
    rows = rng.normal(3, 2, (4, 4, 3)).astype("float32")
    layer = cls(axis=axis, momentum=1.0)
    got = layer(rows, training=True, mask=mask), layer.moving_mean, layer.moving_var
    for v, want in zip(got, keras_statistics(axis, rows, mask), strict=True):
        np.testing.assert_allclose(v, want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["BatchNorm", "axis 1", "renorm", "fused", "var only"])
def test_after_an_embedding(name):
    """The mask comes unasked, and goes on to the next layer."""
    layer = make(name)
    embedding = keras.layers.Embedding(5, 3, mask_zero=True)
    model = keras.Sequential([keras.Input((4,)), embedding, layer])
    Y = model(WORDS, training=True)
    np.testing.assert_array_equal(Y._keras_mask, WORDS > 0)
    apart = make(name)
    want = apart(embedding(WORDS).numpy(), training=True, mask=WORDS > 0)
    np.testing.assert_allclose(Y, want, rtol=1e-5, atol=1e-6)


def test_a_layer_that_counts_takes_no_mask_per_channel():
    layer = bn.BatchNorm(axis=1, momentum=None)
    with pytest.raises(ValueError) as raised:
        layer(X[:, :4], training=True, mask=WORDS > 0)
    assert (
        "a layer that counts values has one number for all channels; the mask has "
        "shape (4, 4), axis 1 in it"
    ) in str(raised.value)
