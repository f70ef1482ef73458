"""What only Keras has: files, fit, unknown batch sizes, policies, its own backend."""

import json
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
pytestmark = pytest.mark.filterwarnings("ignore:The model does not have any trainable")


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
    Y = bn.BatchNorm(5, 2, dtype=f"mixed_{dtype}")(half, training=True)
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


@pytest.mark.parametrize("first", ["bn_from_scratch", "tensorflow"])
def test_triton_is_loaded_before_tensorflow_or_not_at_all(first, tmp_path):
    (tmp_path / "triton.py").touch()
    code = f"""if True:
        import sys
        import {first}
        from bn_from_scratch import tensorflow
        names = list(sys.modules)
        first = [name for name in names if name in ("triton", "tensorflow")]
        print(*first)
        """
    folders = [str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(folders)}
    answer = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )
    wanted = ["tensorflow"] if first == "tensorflow" else ["triton", "tensorflow"]
    assert answer.stdout.split() == wanted


@pytest.mark.parametrize("level", [{}, {"TF_CPP_MIN_LOG_LEVEL": "1"}], ids=str)
def test_the_import_and_many_networks_in_a_row_are_quiet(level):
    """Where nobody has chosen a level, and where JAX was imported before: it sets 1."""
    code = """if True:
        from bn_from_scratch import data, tensorflow as bn
        images = data.load("garments").take(8, 8)
        for _ in range(7):
            trainer = bn.Trainer(max_epochs=1, batch_size=8, progress=False)
            trainer.fit(bn.LeNet(), images)
        """
    environment = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
    answer = subprocess.run(
        [sys.executable, "-c", code],
        env=environment | level,
        capture_output=True,
        text=True,
    )
    assert (answer.returncode, answer.stdout, answer.stderr) == (0, "", "")


# --- Options: what Keras adds to them ------------------------------------------------


def graph_of(layer, **options):
    """The layer in training, traced once for batches of every size."""
    return tf.function(
        lambda X: layer(X, training=True, **options),
        input_signature=[tf.TensorSpec([None, 5])],
    )


def model_of(*layers):
    model = keras.Sequential([keras.Input((5,)), *layers])
    model.compile(keras.optimizers.SGD(0.1), "mse")
    return model


def fitted(*layers, batch_size=3):
    model = model_of(*layers)
    model.fit(X, -X, batch_size=batch_size, shuffle=False, verbose=0)
    return model


def test_the_weights_of_a_file_from_before_the_options():
    old = {"num_features": 5, "num_dims": 2, "eps": 1e-3, "momentum": 0.3}
    layer = bn.BatchNorm.from_config(old | {"name": "bn1", "trainable": True})
    layer.build((None, 5))
    names = ["gamma", "beta", "moving_mean", "moving_var"]
    assert [v.name for v in layer.weights] == names


def test_a_regularizer_adds_to_the_loss():
    layer = bn.BatchNorm(gamma_regularizer=keras.regularizers.L2(0.5))
    model = model_of(layer)
    np.testing.assert_allclose(model.losses, [0.5 * 5])
    layer.frozen = "affine"
    assert model.losses == []


def test_a_constraint_holds_after_a_step():
    free, layer = (
        bn.BatchNorm(),
        bn.BatchNorm(
            gamma_constraint=keras.constraints.UnitNorm(axis=0),
            beta_constraint="non_neg",
        ),
    )
    for model in (free, layer):
        fitted(model)  # towards -X: beta becomes negative
    np.testing.assert_allclose(np.linalg.norm(layer.gamma), 1, rtol=1e-5)
    assert layer.beta.numpy().min() == 0
    assert np.linalg.norm(free.gamma) > 1.5
    assert free.beta.numpy().max() < 0


def test_keras_has_one_channel_axis():
    with pytest.raises(ValueError) as raised:
        bn.builtin(4, 2, axis=())
    assert str(raised.value) == "Keras's layer has one channel axis; got axis=()"


def test_initializers():
    layer = bn.BatchNorm(
        gamma_initializer=0.1,
        beta_initializer="ones",
        moving_mean_initializer=keras.initializers.RandomNormal(seed=0),
        dtype="float64",
    )
    layer.build((None, 5))
    np.testing.assert_array_equal(layer.gamma, np.full(5, 0.1))
    np.testing.assert_array_equal(layer.beta, np.ones(5))
    assert len(set(layer.moving_mean.numpy())) == 5


@pytest.mark.parametrize("switch", ["layer", "model", "frozen"])
def test_trainable_false_means_prediction(switch):
    layer = bn.BatchNorm(statistics="batch")
    model = fitted(layer)
    before, change = layer.get_weights(), layer if switch == "layer" else model
    if switch == "frozen":
        layer.frozen = "all"
    else:
        change.trainable = False
    model.compile("sgd", "mse")
    want = (X - before[2]) / np.sqrt(before[3] + layer.eps) * before[0] + before[1]
    for training in (True, False):
        np.testing.assert_allclose(model(X, training=training), want, rtol=1e-4)
    model.fit(X, -X, verbose=0)
    for v, value in zip(layer.get_weights(), before, strict=True):
        np.testing.assert_array_equal(v, value)
    assert not model.trainable_variables
    if switch == "frozen":
        layer.frozen = None
    else:
        change.trainable = True
    assert [v.name for v in model.trainable_variables] == ["gamma", "beta"]


def test_the_parent_does_not_thaw_a_frozen_layer():
    layer = bn.BatchNorm(frozen="affine")
    model = model_of(layer)
    assert not model.trainable_variables
    model.trainable = False
    model.trainable = True
    assert not model.trainable_variables
    model.compile("sgd", "mse")
    model.fit(X, -X, batch_size=9, verbose=0)
    np.testing.assert_array_equal(layer.gamma, np.ones(5))
    np.testing.assert_allclose(layer.moving_mean, 0.1 * X.mean(0), rtol=1e-5)


def test_a_mixed_policy_reads_float32_statistics():
    layer = bn.BatchNorm(5, dtype="mixed_float16")
    layer.build((None, 5))
    layer.moving_mean.assign(np.full(5, 1 + 2**-13))
    Y = layer(np.ones((1, 5), "float32"))
    assert Y.dtype == "float16"
    np.testing.assert_allclose(Y, np.full((1, 5), -(2.0**-13)), rtol=1e-4)


def test_16_bit_parameters_do_not_exist():
    layer = bn.BatchNorm(5, dtype="float16")
    layer.build((None, 5))
    assert {v.dtype for v in layer.variables} == {"float32"}


def test_a_symbolic_call():
    image = keras.Input((5, None, 4), dtype="float64")
    layer = bn.BatchNorm(axis=1, dtype="float64")
    Y = layer(image)
    assert (Y.shape, Y.dtype) == ((None, 5, None, 4), "float64")
    assert layer.gamma.shape == (5,)


def test_a_lazy_layer_keeps_the_sizes_that_it_met():
    layer = bn.BatchNorm()
    layer(X)
    assert layer.num_features == 5
    with pytest.raises(ValueError, match="expected 5 channels on axis 1"):
        layer(X[:, :4])
    with pytest.raises(ValueError, match=r"no axis 2: X has shape \(9, 5\)"):
        bn.BatchNorm(axis=2)(X)


def test_the_mask_of_a_masking_layer():
    sequences = np.random.default_rng(0).normal(3, 2, (4, 6, 5)).astype("float32")
    sequences[:, 4:] = 0
    layer = bn.BatchNorm()
    model = keras.Sequential([keras.Input((None, 5)), keras.layers.Masking(), layer])
    model.compile("sgd", "mse")
    model.fit(sequences, sequences, verbose=0)
    want = 0.1 * sequences[:, :4].mean((0, 1))
    np.testing.assert_allclose(layer.moving_mean, want, rtol=1e-5)
    passed_on = model(sequences)._keras_mask
    np.testing.assert_array_equal(passed_on, np.tile(np.arange(6) < 4, (4, 1)))


# --- Unknown sizes -------------------------------------------------------------------


@pytest.mark.parametrize("cls", ["BatchNorm", "BatchRenorm", "FusedBatchNorm"])
@pytest.mark.parametrize("momentum", [0.1, None])
def test_batches_of_unknown_size_move_the_same(cls, momentum):
    sizes = 0, 3, 4, 0, 2
    traced, eager = (getattr(bn, cls)(5, momentum=momentum) for _ in range(2))
    step, start = graph_of(traced), 0
    for n in sizes:
        batch = tf.constant(X[start : start + n])
        np.testing.assert_allclose(step(batch), eager(batch, training=True), rtol=1e-5)
        start += n
    for v, want in zip(traced.variables, eager.variables, strict=True):
        np.testing.assert_allclose(v, want, rtol=1e-5)


@pytest.mark.parametrize("names", [[], ["fused"], ["renorm"]])
def test_micro_batches_of_unknown_size(names):
    """The counters are variables: a traced graph goes on counting."""
    layer = bn.combine("accumulate", *names)(5, steps=4)
    step = graph_of(layer)
    for rows in (X[:3], X[:0], X[3:7]):
        step(tf.constant(rows))
        np.testing.assert_array_equal(layer.moving_mean, np.zeros(5))
    step(tf.constant(X[7:]))
    np.testing.assert_allclose(layer.moving_mean, 0.1 * X.mean(0), rtol=1e-5)
    want = 0.9 + 0.1 * X.var(0)
    np.testing.assert_allclose(layer.moving_var, want, rtol=1e-5)


@pytest.mark.parametrize("order", ["contiguous", "strided"])
def test_ghost_batches_of_unknown_size(order):
    layer, eager = (bn.GhostBatchNorm(5, ghost_size=3, order=order) for _ in range(2))
    step = graph_of(layer)
    step(tf.zeros((0, 5)))
    np.testing.assert_array_equal(layer.moving_mean, np.zeros(5))
    np.testing.assert_allclose(step(X), eager(X, training=True), rtol=1e-5)
    for v, want in zip(layer.variables, eager.variables, strict=True):
        np.testing.assert_allclose(v, want, rtol=1e-5)
    with pytest.raises(Exception, match="ghost batches of 3 must divide the batch"):
        step(X[:8])
    with pytest.raises(ValueError, match=r"ghost batch has shape \(1, 5\)"):
        graph_of(bn.GhostBatchNorm(5, ghost_size=1))(X)


def test_one_value_of_unknown_size_is_an_error_in_prediction_by_the_batch():
    model = model_of(bn.BatchNorm(statistics="batch"))
    np.testing.assert_allclose(model.predict(X, verbose=0).mean(0), 0, atol=1e-6)
    with pytest.raises(Exception, match="training needs more than one value per"):
        model.predict(X[:1], verbose=0)


def test_transformed_is_switched_in_what_fit_has_traced():
    layer = bn.TransformedBatchNorm(transform=halve, momentum=0.0)
    model = fitted(layer)
    layer.transformed = False
    plain = model.predict(X, verbose=0)
    layer.transformed = True
    transformed = model.predict(X, verbose=0)
    np.testing.assert_allclose(transformed, (plain - layer.beta) / 2 - 1, rtol=1e-4)
    before = layer.gamma.numpy()
    step = model.train_function
    model.fit(X, -X, batch_size=3, shuffle=False, verbose=0)
    assert model.train_function is step
    assert layer.transformed
    assert np.any(layer.gamma.numpy() != before)


# --- Files ---------------------------------------------------------------------------


@keras.saving.register_keras_serializable("test_tensorflow")
def halve(gamma, beta, mean, var):
    return gamma / 2, 0 * beta - 1, mean, var


@keras.saving.register_keras_serializable("test_tensorflow")
def scale_of_step(step):
    return 1 + step


OPTIONS = {
    "eps": 1e-3,
    "momentum": None,
    "axis": (-1,),
    "scale": False,
    "correction": 1,
    "statistics": "batch",
    "frozen": "affine",
    "beta_initializer": keras.initializers.RandomNormal(seed=1),
    "beta_regularizer": keras.regularizers.L1(0.1),
    "beta_constraint": keras.constraints.NonNeg(),
}
KERAS = {"renorm_clipping": {"rmax": 1.3, "dmax": 0.4}, "renorm_momentum": 0.3}
FILED = {
    "options": lambda: bn.BatchNorm(**OPTIONS),
    "ghost": lambda: bn.GhostBatchNorm(ghost_size=3, order="strided", variance="mean"),
    "renorm": lambda: bn.BatchRenorm(**KERAS),
    "renorm, a schedule": lambda: bn.BatchRenorm(r_max=scale_of_step, d_max=0.5),
    "adjust": lambda: bn.AdjustedBatchNorm(adjustment=(1.5, np.arange(5.0))),
    "sync": lambda: bn.SyncBatchNorm(num_dims=2),
    "accumulate": lambda: bn.AccumBatchNorm(steps=2),  # three calls: half way
    "freeze": lambda: bn.FrozenBatchNorm(moving_mean_initializer=2),
    "transform": lambda: bn.TransformedBatchNorm(
        transform=halve, straight_through=True, transformed=False
    ),
    "fused": lambda: bn.FusedBatchNorm(center=False),
    "mean only": lambda: bn.MeanOnlyBatchNorm(dtype="float64"),
    "var only": lambda: bn.VarOnlyBatchNorm(trainable=False),
    "combined": lambda: bn.combine("ghost", "renorm")(ghost_size=3, r_max=1.2),
    "layer norm": lambda: bn.LayerNorm(5, axis=(-1,), feature_axis=[-1]),
}


@pytest.mark.parametrize("make", FILED.values(), ids=FILED)
def test_config_round_trip(make):
    layer = make()
    config = layer.get_config()
    again = type(layer).from_config(config)
    assert type(again) is type(layer)
    assert json.dumps(again.get_config()) == json.dumps(config)


def test_every_argument_is_in_the_config():
    config = bn.BatchNorm(**OPTIONS).get_config()
    for name, value in OPTIONS.items():
        assert (
            config[name] is value
            or config[name] == value
            or "class_name" in (config[name])
        )
    for name in ("ghost_size", "order", "variance"):
        assert name in FILED["ghost"]().get_config()


@pytest.mark.parametrize("make", FILED.values(), ids=FILED)
def test_file_round_trip(make, tmp_path):
    """Then both go on training alike: no state and no setting is lost."""
    model = fitted(make())
    model.save(tmp_path / "model.keras")
    restored = keras.models.load_model(tmp_path / "model.keras")
    for rows in (X, 2 * X[:6]):
        for v, other in zip(restored.variables, model.variables, strict=True):
            np.testing.assert_array_equal(v, other)
        for training in (True, False):
            got, want = (m(rows, training=training) for m in (restored, model))
            np.testing.assert_array_equal(got, want)


def test_a_model_can_be_cloned_and_exported(tmp_path):
    model = fitted(bn.combine("transform", "renorm")(transform=halve))
    again = keras.models.clone_model(model)
    again.set_weights(model.get_weights())
    np.testing.assert_array_equal(again(X), model(X))
    model.export(tmp_path / "model", verbose=False)
    exported = tf.saved_model.load(tmp_path / "model")
    np.testing.assert_allclose(exported.serve(X), model(X), atol=1e-6)
