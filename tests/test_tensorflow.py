"""What only Keras has: files, fit, unknown batch sizes, policies, its own backend."""

import os
import subprocess
import sys

import numpy as np
import pytest
from conftest import load_or_skip
from tolerances import TOLERANCE

bn = load_or_skip("tensorflow")
tf = pytest.importorskip("tensorflow")
keras = pytest.importorskip("keras")
X = np.random.default_rng(0).normal(3, 2, (9, 5)).astype("float32")


def small_model():
    model = keras.Sequential(
        [keras.Input((5,)), bn.BatchNorm(5, 2, momentum=0.3), keras.layers.Dense(1)]
    )
    model.compile("sgd", "mse")
    return model


def test_fit_moves_the_statistics_and_predict_uses_them():
    model = small_model()
    model.fit(X, X[:, :1], batch_size=3, epochs=1, shuffle=False, verbose=0)
    moving = np.zeros(5)
    for rows in X.reshape(3, 3, 5):
        moving = 0.7 * moving + 0.3 * rows.mean(0)
    np.testing.assert_allclose(model.layers[0].moving_mean.numpy(), moving, rtol=1e-5)


def test_the_model_survives_a_keras_file(tmp_path):
    model = small_model()
    model.fit(X, X[:, :1], batch_size=3, verbose=0)
    model.save(tmp_path / "model.keras")
    restored = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(restored(X), model(X))
    assert restored.layers[0].momentum == 0.3


def test_a_last_batch_of_one_is_an_error_in_fit():
    """Keras traces fit with an unknown batch size: the check must run in the graph."""
    with pytest.raises(Exception, match="training needs more than one value per"):
        small_model().fit(X[:7], X[:7, :1], batch_size=3, verbose=0)


def test_an_empty_batch_of_unknown_size():
    layer = bn.BatchNorm(5, 2)
    layer.build((None, 5))
    unknown = [tf.TensorSpec([None, 5])]
    step = tf.function(lambda X: layer(X, training=True), input_signature=unknown)
    step(tf.zeros((0, 5)))
    np.testing.assert_array_equal(layer.moving_mean.numpy(), np.zeros(5))
    step(tf.constant(X))
    np.testing.assert_allclose(layer.moving_mean.numpy(), 0.1 * X.mean(0), rtol=1e-5)


def test_the_moved_statistics_carry_no_gradient():
    one, zero, leaf = tf.ones(5), tf.zeros(5), tf.constant(X)
    with tf.GradientTape() as tape:
        tape.watch(leaf)
        moved = bn.batch_norm(leaf, one, zero, zero, one, training=True)[1:]
    assert tape.gradient(moved, leaf) is None


def test_without_training_the_layer_predicts():
    layer = bn.BatchNorm(5, 2)
    layer(X)
    np.testing.assert_array_equal(layer.moving_mean.numpy(), np.zeros(5))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_16_bit_input(dtype):
    half = tf.cast(100 * X, dtype)
    Y = bn.BatchNorm(5, 2)(half, training=True)
    want = bn.BatchNorm(5, 2)(tf.cast(half, tf.float32), training=True).numpy()
    assert Y.dtype == dtype
    difference = np.abs(tf.cast(Y, tf.float32).numpy() - want).max()
    assert difference <= TOLERANCE[dtype] * np.abs(want).max()


def test_a_mixed_policy_keeps_float32_variables():
    layer = bn.BatchNorm(5, 2, dtype="mixed_float16")
    Y = layer(tf.cast(X, "float16"), training=True)
    assert Y.dtype == "float16"
    assert {v.dtype for v in layer.variables} == {"float32"}


@pytest.mark.parametrize("keras_backend", ["jax", "nonsense"])
def test_keras_on_another_framework_is_an_error(keras_backend):
    code = "from bn_from_scratch import tensorflow"
    environment = os.environ | {"KERAS_BACKEND": keras_backend}
    answer = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )
    assert answer.returncode == 1
    assert answer.stderr.splitlines()[-1] == (
        "ValueError: the tensorflow backend runs Keras on TensorFlow; Keras runs on "
        f"{keras_backend} here: set KERAS_BACKEND=tensorflow"
    )


def test_the_import_is_quiet():
    code = "from bn_from_scratch import tensorflow as bn; bn.BatchNorm(5, 2)"
    environment = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
    answer = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )
    assert (answer.returncode, answer.stdout, answer.stderr) == (0, "", "")
