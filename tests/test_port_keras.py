"""What files of Keras say of their batch norms: in wrappers, and in all layouts."""

import io
import json
import zipfile

import numpy as np
import pytest
from conftest import load_or_skip

from bn_from_scratch.health import health
from bn_from_scratch.port import files, port

rng = np.random.default_rng(0)
NAMES = ("gamma", "beta", "moving_mean", "moving_variance")


@pytest.fixture(scope="module")
def wrapped():
    """A model of batch norms in whatever holds a layer, and the eps of each.

    None: no description says it, since a layer made the batch norm by itself.
    """
    load_or_skip("tensorflow")
    import keras
    from keras import layers

    def norm(eps, **named):
        return layers.BatchNormalization(epsilon=eps, momentum=0.8, **named)

    @keras.saving.register_keras_serializable("test")
    class Held(layers.Layer):
        """Holds one that it describes under another key, and one that it does not."""

        def __init__(self, given=None, **named):
            super().__init__(**named)
            self.inside, self.more = given or norm(3e-5), [norm(7e-5, name="own")]

        def build(self, shape):
            self.inside.build(shape)
            self.more[0].build(shape)

        def call(self, X):
            return self.more[0](self.inside(X))

        def get_config(self):
            given = keras.saving.serialize_keras_object(self.inside)
            return super().get_config() | {"given": given}

    @keras.saving.register_keras_serializable("test")
    class Cell(layers.Layer):
        def __init__(self, norm, **named):
            super().__init__(**named)
            self.norm, self.state_size = norm, 2

        def build(self, shape):
            self.norm.build(shape)

        def call(self, X, states):
            Y = self.norm(X) + states[0]
            return Y, [Y]

        def get_config(self):
            norm = keras.saving.serialize_keras_object(self.norm)
            return super().get_config() | {"norm": norm}

        @classmethod
        def from_config(cls, config):
            norm = keras.saving.deserialize_keras_object(config.pop("norm"))
            return cls(norm, **config)

    @keras.saving.register_keras_serializable("test")
    class Wrap(layers.Wrapper):
        def call(self, X):
            return self.layer(X)

        def compute_output_shape(self, shape):
            return shape

    X = keras.Input((3, 2))
    block = keras.Sequential([layers.Dense(2), norm(2e-5, name="bn")], name="block")
    outer = keras.Sequential([block, norm(4e-5, name="bn")], name="outer")
    Y = layers.TimeDistributed(norm(1e-5), name="time")(X)
    Y = layers.TimeDistributed(Wrap(norm(5e-5)), name="twice")(Y)
    Y = layers.TimeDistributed(outer, name="nested")(Y)
    Y = Held(name="held")(Y)
    cells = layers.RNN(Cell(norm(6e-5), name="cell"), return_sequences=True)
    Y = layers.Bidirectional(cells, name="both")(Y)
    stacked = [Cell(norm(eps)) for eps in (8e-5, 9e-5)]
    Y = layers.RNN(stacked, name="stack")(layers.Dense(2)(Y))
    model = keras.Model(X, norm(1e-4, name="bn")(Y))
    for v in model.variables:
        if v.dtype == "float32":
            v.assign(rng.uniform(0.5, 2, v.shape))
    expected = {
        "time.layer": 1e-5,
        "twice.layer.layer": 5e-5,
        "nested.layer.block.bn": 2e-5,
        "nested.layer.bn": 4e-5,
        "held.inside": 3e-5,
        "held.more.batch_normalization": None,
        "both.forward_layer.cell.norm": 6e-5,
        "both.backward_layer.cell.norm": 6e-5,
        "stack.cell.cells.cell.norm": 8e-5,
        "stack.cell.cells.cell_1.norm": 9e-5,
        "bn": 1e-4,
    }
    return model, expected


def eps_of(path):
    return {path: norm.eps for path, norm in files.read(path).norms.items()}


def test_a_batch_norm_in_a_wrapper_has_the_eps_of_its_description(wrapped, tmp_path):
    model, expected = wrapped
    model.save(tmp_path / "a.keras")
    assert eps_of(tmp_path / "a.keras") == expected
    momenta = {
        norm.momentum for norm in files.read(tmp_path / "a.keras").norms.values()
    }
    assert momenta == {0.2, None}


def test_files_whose_groups_have_no_names(wrapped, tmp_path):
    """As older Keras writes them: a layer is known by its place in the file."""
    import h5py

    model, expected = wrapped
    model.save(tmp_path / "a.keras")
    with zipfile.ZipFile(tmp_path / "a.keras") as file:
        config, blob = (
            file.read("config.json"),
            io.BytesIO(file.read("model.weights.h5")),
        )
    with h5py.File(blob, "a") as file:
        file.visititems(lambda _, thing: thing.attrs.pop("name", None) and None)
    with zipfile.ZipFile(tmp_path / "b.keras", "w") as file:
        file.writestr("config.json", config)
        file.writestr("model.weights.h5", blob.getvalue())
    expected = expected | {"held.inside": None}  # described under another key
    assert eps_of(tmp_path / "b.keras") == expected


def test_the_settings_in_wrappers_are_carried(wrapped, tmp_path):
    """Issue: at variance 1e-3 Keras answers 31.5, the layer with another eps 22.4."""
    load_or_skip("torch"), load_or_skip("tensorflow")
    import keras
    from keras.layers import BatchNormalization, TimeDistributed

    X = keras.Input((3, 2))
    model = keras.Model(X, TimeDistributed(BatchNormalization(epsilon=1e-5))(X))
    model.set_weights([np.ones(2), np.zeros(2), np.zeros(2), np.full(2, 1e-3)])
    model.save(tmp_path / "a.keras")
    port(tmp_path / "a.keras", "torch")
    (norm,) = files.read(tmp_path / "a.pt").norms.values()
    assert (norm.eps, norm.momentum) == (1e-5, 0.01)
    answer = 1 / np.sqrt(norm.state["moving_var"] + norm.eps)
    theirs = keras.ops.convert_to_numpy(model(np.ones((1, 3, 2))))[0, 0]
    np.testing.assert_allclose(answer, theirs, rtol=1e-6)
    assert theirs[0] == pytest.approx(31.5, abs=0.05)


def test_two_of_one_name_that_differ_are_not_told_apart(tmp_path):
    from bn_from_scratch.port.formats import keras_config

    def described(eps, name="bn"):
        config = {"name": name, "epsilon": eps}
        return {"class_name": "BatchNormalization", "config": config}

    def holding(*inner):
        return {"class_name": "Held", "config": {"given": [*inner]}}

    same, other = [described(1e-3), described(1e-3)], [described(1e-3), described(1e-5)]
    assert keras_config.by_name(holding(*same), "bn") == described(1e-3)
    assert keras_config.by_name(holding(*other), "bn") == {}
    deep = holding(described(1e-5, "a"), holding(described(1e-3)))
    assert keras_config.by_name(deep, "bn") == described(1e-3)
    assert keras_config.only_norm(deep) == {}


def test_a_description_is_of_one_layer(tmp_path):
    """Two of one name, and one of them described: which one, no one can say."""
    load_or_skip("tensorflow")
    import keras

    @keras.saving.register_keras_serializable("test")
    class Twice(keras.layers.Layer):
        def __init__(self, given=None, **named):
            super().__init__(**named)
            norm = keras.layers.BatchNormalization
            self.a = given or norm(epsilon=1e-5, name="bn")
            self.more = [norm(epsilon=9e-5, name="bn")]

        def build(self, shape):
            self.a.build(shape)
            self.more[0].build(shape)

        def call(self, X):
            return self.more[0](self.a(X))

        def get_config(self):
            given = keras.saving.serialize_keras_object(self.a)
            return super().get_config() | {"given": given}

    X = keras.Input((3,))
    keras.Model(X, Twice(name="twice")(X)).save(tmp_path / "a.keras")
    expected = {"twice.a": None, "twice.more.batch_normalization": None}
    assert eps_of(tmp_path / "a.keras") == expected


def test_what_an_optimizer_has_is_no_batch_norm(tmp_path):
    """Its vectors are as long as theirs."""
    load_or_skip("tensorflow")
    import keras

    norm = keras.layers.BatchNormalization(name="bn")
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(3), norm])
    model.compile("adam", "mse")
    model.optimizer.build(model.trainable_variables)
    model.save(tmp_path / "a.keras")
    found = files.read(tmp_path / "a.keras")
    assert list(found.norms) == ["bn"]
    assert found.left == ("optimizer",)


def test_a_subclass_is_named_and_not_carried(tmp_path):
    """It may compute more: here a ReLU follows."""
    load_or_skip("tensorflow")
    import keras

    @keras.saving.register_keras_serializable("test")
    class NormAndReLU(keras.layers.BatchNormalization):
        def call(self, X, **options):
            return keras.ops.relu(super().call(X, **options))

    layers = [keras.Input((3,)), NormAndReLU(name="act")]
    keras.Sequential(layers).save(tmp_path / "a.keras")
    path = tmp_path / "a.keras"
    message = (
        f"{path} cannot be carried: there is no batch norm in it; it has act "
        r"\(a NormAndReLU\)"
    )
    with pytest.raises(ValueError, match=f"^{message}$"):
        files.read(path)
    layers += [keras.layers.BatchNormalization(name="bn")]
    keras.Sequential(layers).save(path)
    found = files.read(path)
    assert list(found.norms) == ["bn"]
    assert found.unknown == {"act": "NormAndReLU"}
    (note, *_) = port(path, "tensorflow", tmp_path / "b.keras").notes
    assert note == "act is not carried: what a NormAndReLU computes is not known here"
    found = health(path)
    assert not found.well
    assert [row.cells[-1] for row in found.rows] == [
        "statistics never moved",
        "not looked at",
    ]


def test_what_a_layer_does_in_training_beside_is_told(tmp_path):
    bn = load_or_skip("tensorflow")
    import keras

    norms = [
        keras.layers.BatchNormalization(name="bn", synchronized=True),
        bn.BatchNorm(momentum=None, name="ours"),
    ]
    keras.Sequential([keras.Input((3,)), *norms]).save(tmp_path / "a.keras")
    left = files.read(tmp_path / "a.keras").left
    assert {"bn.synchronized", "ours.momentum=None"} < {*left}


def test_arrays_in_the_names_of_keras(tmp_path):
    load_or_skip("tensorflow")
    arrays = {f"bn.{name}": rng.uniform(0.5, 2, 3) for name in reversed(NAMES)}
    np.savez(tmp_path / "a.npz", **arrays)
    found = files.read(tmp_path / "a.npz")
    assert found.framework == "tensorflow"
    (norm,) = found.norms.values()
    np.testing.assert_array_equal(
        norm.state["moving_var"], arrays["bn.moving_variance"]
    )
    assert port(tmp_path / "a.npz", "tensorflow", tmp_path / "b.keras").largest < 1e-6


# --- The layout of Keras 2 -----------------------------------------------------------


def write_keras_2(path, layers, config=None, chunk=None):
    """A file as Keras 2 writes it.  layers: {name: {name of a weight: array}}."""
    import h5py

    with h5py.File(path, "w") as file:
        top = file
        if config is not None:
            file.attrs["model_config"] = json.dumps(config).encode()
            top = file.create_group("model_weights")
        top.attrs["keras_version"] = b"2.4.0"
        names = [name.encode() for name in layers]
        if chunk is None:
            top.attrs["layer_names"] = names
        else:  # a long list is cut
            for i in range(0, len(names), chunk):
                top.attrs[f"layer_names{i // chunk}"] = names[i : i + chunk]
        for name, weights in layers.items():
            group = top.create_group(name)
            group.attrs["weight_names"] = [weight.encode() for weight in weights]
            for weight, array in weights.items():
                group[weight] = array


def weights(scope, C=3, names=NAMES):
    return {f"{scope}/{name}:0": rng.uniform(0.5, 2, C).astype("f4") for name in names}


def described(name, eps, kind="BatchNormalization", **more):
    config = {"name": name, "momentum": 0.9, "epsilon": eps} | more
    config |= {"center": True, "scale": True, "axis": [3]}
    return {"class_name": kind, "config": config}


def keras_2_model():
    """{layer: its weights}, and the description; each place that a norm can have."""
    layers = {
        "conv": {"conv/kernel:0": np.ones((3, 3, 1, 3)), "conv/bias:0": np.ones(3)},
        "relu": {},
        "bn": weights("bn"),
        "stage/bn": weights("stage/bn"),
        "bn_again": weights("bn_7"),
        "block": weights("inner") | weights("block/last", 5),
        "time": weights("time"),
        "bn_plain": weights("bn_plain", 3, NAMES[1:]),
    }
    plain = described("bn_plain", 6e-5)
    plain["config"]["scale"] = False
    block = {"name": "block", "layers": [described("inner", 4e-5)]}
    block["layers"].append(described("last", 5e-5))
    wrapper = {"name": "time", "layer": described("batch_normalization", 1e-5)}
    model = [
        described("bn", 1e-3),
        described("stage/bn", 2e-3, "BatchNormalizationV1"),
        described("bn_again", 3e-3, "SyncBatchNormalization"),
        {"class_name": "Model", "config": block},
        {"class_name": "TimeDistributed", "config": wrapper},
        plain,
    ]
    return layers, {
        "class_name": "Functional",
        "config": {"name": "m", "layers": model},
    }


EPS = {
    "bn": 1e-3,
    "stage/bn": 2e-3,
    "bn_again": 3e-3,
    "block.inner": 4e-5,
    "block.last": 5e-5,
    "time": 1e-5,
    "bn_plain": 6e-5,
}


@pytest.mark.parametrize("name", ["emotion.h5", "emotion.hdf5", "emotion"])
def test_a_whole_model_of_keras_2(name, tmp_path):
    load_or_skip("tensorflow"), load_or_skip("torch")
    layers, config = keras_2_model()
    path = tmp_path / name
    write_keras_2(path, layers, config)
    found = files.read(path)
    assert {path: norm.eps for path, norm in found.norms.items()} == EPS
    assert {norm.momentum for norm in found.norms.values()} == {0.1}
    assert list(found.others) == ["conv.weight", "conv.bias"]
    assert "gamma" not in found.norms["bn_plain"].state
    expected = layers["block"]["block/last/moving_variance:0"]
    state = found.norms["block.last"].state
    np.testing.assert_array_equal(state["moving_var"], expected)
    report = port(path, "torch", tmp_path / "a.pt")
    assert report.kind == "batch norms: 7"
    assert report.notes[-1] == (
        "the stored variance is carried as it is: that of Keras 2 is n/(n-1) times the "
        "biased one in fused layers, and in others not"
    )
    with pytest.raises(ValueError, match=r"^Keras 2 stores the unbiased variance in "):
        port(path, "torch", tmp_path / "b.pt", values=8)


@pytest.mark.parametrize("chunk", [None, 3])
def test_weights_of_keras_2_say_no_eps(chunk, tmp_path):
    load_or_skip("tensorflow")
    layers, _ = keras_2_model()
    write_keras_2(tmp_path / "a.h5", layers, chunk=chunk)
    assert eps_of(tmp_path / "a.h5") == dict.fromkeys(EPS)


def test_the_h5_that_keras_3_writes(wrapped, tmp_path):
    model, expected = wrapped
    model.save(tmp_path / "a.h5")
    assert not files.read(tmp_path / "a.h5").mixed
    found = [norm.eps for norm in files.read(tmp_path / "a.h5").norms.values()]
    assert sorted(map(str, found)) == sorted(map(str, expected.values()))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"model_config": b"{"}, "its model_config cannot be read: Expecting prop.*"),
        (
            {"model_config": b"[]"},
            "its model_config cannot be read: it describes no m.*",
        ),
        ({"layer_names": [b"gone"]}, "/model_weights/gone is not in the file"),
    ],
)
def test_files_of_keras_2_that_contradict_themselves(change, reason, tmp_path):
    load_or_skip("tensorflow")
    import h5py

    path = tmp_path / "a.h5"
    write_keras_2(path, {"bn": weights("bn")}, described("m", 1e-3, "Model"))
    with h5py.File(path, "a") as file:
        for name, value in change.items():
            holder = file if name == "model_config" else file["model_weights"]
            holder.attrs[name] = value
    with pytest.raises(ValueError, match=f"^{path} cannot be carried: {reason}$"):
        files.read(path)
