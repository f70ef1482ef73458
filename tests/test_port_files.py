"""Files as the frameworks write them, and files that are wrong in every way."""

import gzip
import io
import json
import pickle
import tarfile
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from conftest import load_or_skip

from bn_from_scratch import lenet, training
from bn_from_scratch.health import health
from bn_from_scratch.port import files, network, port, proof
from bn_from_scratch.port.content import OURS, Content, Norm

rng = np.random.default_rng(0)
PNG = b"\x89PNG\r\n\x1a\n" + bytes(64)


def vectors(C=3, dtype="float32"):
    state = {name: rng.uniform(0.5, 2, C).astype(dtype) for name in OURS}
    return {name: np.ascontiguousarray(v) for name, v in state.items()}


def content(framework, **sizes):
    sizes = sizes or {"bn": 3}
    norms = {path: Norm(vectors(C), {}, False, 1e-3, 0.1) for path, C in sizes.items()}
    return Content(framework, norms)


def state_of(path, **options):
    return {
        name: norm.state for name, norm in files.read(path, **options).norms.items()
    }


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for path, state in expected.items():
        assert found[path].keys() == state.keys()
        for name, v in state.items():
            np.testing.assert_array_equal(found[path][name], v)


# --- As the frameworks write them ----------------------------------------------------


def test_a_nested_torch_model(tmp_path):
    load_or_skip("torch")
    import torch
    from torch import nn

    model = nn.Sequential(
        nn.Conv2d(1, 3, 1),
        nn.Sequential(nn.BatchNorm2d(3), nn.BatchNorm1d(5)),
        nn.ReLU(),
    )
    expected = {"1.0": vectors(3), "1.1": vectors(5)}
    for i, state in enumerate(expected.values()):
        for own, v in zip(
            ("weight", "bias", "running_mean", "running_var"),
            state.values(),
            strict=True,
        ):
            getattr(model[1][i], own).data.copy_(torch.from_numpy(v))
        model[1][i].num_batches_tracked += 7
    torch.save(model.state_dict(), tmp_path / "a.pt")
    torch.save({"epoch": 3, "state_dict": model.state_dict()}, tmp_path / "b.pth")
    torch.save(
        model.state_dict(), tmp_path / "c.pt", _use_new_zipfile_serialization=False
    )
    for name in ("a.pt", "b.pth", "c.pt"):
        assert_same(state_of(tmp_path / name), expected)
    report = port(tmp_path / "a.pt", "torch", tmp_path / "a.safetensors")
    assert report.left == ["0.weight", "0.bias"]
    assert_same(state_of(tmp_path / "a.safetensors"), expected)
    assert files.read(tmp_path / "a.safetensors").norms["1.0"].batches == 7


def test_torch_loads_what_is_written(tmp_path):
    load_or_skip("torch")
    import torch
    from torch import nn

    given = content("torch", **{"0": 3, "2.1": 5})
    files.write(tmp_path / "a.pt", given)
    inner = nn.Sequential(nn.ReLU(), nn.BatchNorm2d(5))
    model = nn.Sequential(nn.BatchNorm2d(3), nn.ReLU(), inner)
    model.load_state_dict(torch.load(tmp_path / "a.pt", weights_only=True))
    expected = given.norms["2.1"].state["moving_var"]
    np.testing.assert_array_equal(model[2][1].running_var, expected)


@pytest.fixture
def keras_model():
    """Nested in the three ways of Keras: a Sequential, a layer of layers, a list."""
    load_or_skip("tensorflow")
    import keras
    from keras.layers import BatchNormalization, Dense

    class Residual(keras.layers.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.bn_a = BatchNormalization()
            self.parts = [BatchNormalization(), Dense(5)]

        def build(self, shape):
            for layer in (self.bn_a, *self.parts):
                layer.build(shape)

        def call(self, X):
            return self.parts[1](self.parts[0](self.bn_a(X)))

    X = keras.Input((4, 4, 2))
    block = keras.Sequential(
        [
            keras.layers.Conv2D(5, 1, name="conv"),
            BatchNormalization(name="norm", center=False, momentum=0.8, epsilon=0.01),
        ],
        name="block",
    )
    Y = keras.layers.LayerNormalization()(Residual(name="residual")(block(X)))
    model = keras.Model(X, BatchNormalization(name="last", scale=False)(Y))
    for v in model.variables:
        v.assign(rng.uniform(0.5, 2, v.shape))
    return model


def test_a_nested_keras_model(keras_model, tmp_path):
    keras_model.save(tmp_path / "a.keras")
    found = files.read(tmp_path / "a.keras").norms
    layers = {
        "block.norm": keras_model.get_layer("block").get_layer("norm"),
        "residual.bn_a": keras_model.get_layer("residual").bn_a,
        "residual.parts.batch_normalization": keras_model.get_layer("residual").parts[
            0
        ],
        "last": keras_model.get_layer("last"),
    }
    assert found.keys() == layers.keys()
    for path, layer in layers.items():
        for ours, theirs in zip(
            OURS, ("gamma", "beta", "moving_mean", "moving_variance"), strict=True
        ):
            v = getattr(layer, theirs)
            if v is None:
                assert ours not in found[path].state
            else:
                np.testing.assert_array_equal(found[path].state[ours], v.numpy())
    assert (found["block.norm"].eps, found["block.norm"].momentum) == (0.01, 0.2)
    report = port(tmp_path / "a.keras", "torch")
    assert (
        "the file does not say eps: 0.001 was assumed, as Keras has it" in report.notes
    )
    assert report.notes[-2] == (
        "block.norm: no beta in the source; PyTorch must have one, so it is 0: do not "
        "train it"
    )
    assert "beta" not in files.read(tmp_path / "a.pt").norms["block.norm"].state


def test_keras_weights_do_not_say_what_is_absent(tmp_path):
    load_or_skip("tensorflow"), load_or_skip("jax")
    import keras

    model = keras.Sequential(
        [keras.Input((3,)), keras.layers.BatchNormalization(name="bn", center=False)]
    )
    gamma, mean, var = rng.uniform(0.5, 2, (3, 3)).astype("float32")
    model.set_weights([gamma, mean, var])
    path = tmp_path / "a.weights.h5"
    model.save_weights(path)
    message = (
        f"{path} cannot be carried: bn has three vectors, and nothing says whether "
        "gamma or beta is absent: give it, or save the whole model as .keras"
    )
    with pytest.raises(ValueError, match=f"^{message}$"):
        port(path, "jax")
    with pytest.raises(ValueError, match=r"^gamma or beta can be absent; got 'eps'$"):
        port(path, "jax", absent="eps")
    port(path, "jax", absent="beta")
    expected = {"gamma": gamma, "moving_mean": mean, "moving_var": var}
    assert_same(state_of(tmp_path / "a.msgpack"), {"bn": expected})


def test_nested_flax_variables(tmp_path):
    load_or_skip("jax")
    import jax
    from flax import linen as nn
    from flax import serialization

    class Block(nn.Module):
        @nn.compact
        def __call__(self, X):
            X = nn.BatchNorm(use_running_average=True, name="bn", use_bias=False)(X)
            return nn.Dense(5)(X)

    class Model(nn.Module):
        @nn.compact
        def __call__(self, X):
            X = Block(name="block")(X)
            return nn.BatchNorm(use_running_average=True, name="last")(X)

    variables = Model().init(jax.random.key(0), np.zeros((2, 3), "float32"))
    path = tmp_path / "a.msgpack"
    path.write_bytes(serialization.to_bytes({"step": 7, **variables}))
    report = port(path, "jax", tmp_path / "b.safetensors")
    assert report.left == ["step", "block.Dense_0.weight", "block.Dense_0.bias"]
    found = state_of(tmp_path / "b.safetensors")
    assert list(found["block.bn"]) == ["gamma", "moving_mean", "moving_var"]
    assert_same(found, state_of(path))


def test_nested_gluon_blocks(tmp_path):
    load_or_skip("mxnet")
    import mxnet
    from mxnet.gluon import nn

    model, block = nn.HybridSequential(), nn.HybridSequential()
    block.add(nn.BatchNorm(in_channels=5), nn.Dense(5, in_units=5))
    model.add(nn.BatchNorm(in_channels=5), block)
    model.initialize()
    for p in model.collect_params().values():
        p.set_data(mxnet.np.array(rng.uniform(0.5, 2, p.shape).astype("float32")))
    model.save_parameters(str(tmp_path / "a.params"))
    found = state_of(tmp_path / "a.params")
    assert list(found) == ["0", "1.0"]
    np.testing.assert_array_equal(
        found["1.0"]["moving_var"], block[0].running_var.data()
    )
    port(tmp_path / "a.params", "mxnet", tmp_path / "b.params")
    for p in model.collect_params().values():
        p.set_data(mxnet.np.zeros(p.shape))
    model.load_parameters(str(tmp_path / "b.params"), allow_missing=True)
    np.testing.assert_array_equal(block[0].gamma.data(), found["1.0"]["gamma"])


def test_parameters_of_the_symbol_api(tmp_path):
    """aux:bn_moving_mean, in legacy arrays."""
    load_or_skip("mxnet")
    import mxnet

    state = vectors()
    named = {
        f"{'aux' if 'moving' in name else 'arg'}:stage1_bn_{name}": mxnet.nd.array(v)
        for name, v in state.items()
    }
    mxnet.nd.save(str(tmp_path / "a.params"), named)
    assert_same(state_of(tmp_path / "a.params"), {"stage1_bn": state})


def test_a_bare_layer(tmp_path):
    """Saved without a model around it, it has no path."""
    for framework in ("torch", "jax", "tensorflow"):
        load_or_skip(framework)
    given = content("torch", **{"": 3})
    files.write(tmp_path / "a.pt", given)
    assert "running_mean" in __import__("torch").load(tmp_path / "a.pt")
    port(tmp_path / "a.pt", "jax")
    assert_same(state_of(tmp_path / "a.msgpack"), state_of(tmp_path / "a.pt"))
    port(tmp_path / "a.pt", "tensorflow")
    expected = {"batch_norm": given.norms[""].state}
    assert_same(state_of(tmp_path / "a.weights.h5"), expected)


def test_torchs_count_of_batches_is_kept(tmp_path):
    load_or_skip("torch")
    import torch

    given = content("torch")
    counted = {path: replace(norm, batches=7) for path, norm in given.norms.items()}
    files.write(tmp_path / "a.pt", replace(given, norms=counted))
    state = torch.load(tmp_path / "a.pt", weights_only=True)
    assert state["bn.num_batches_tracked"] == 7
    port(tmp_path / "a.pt", "torch", tmp_path / "b.pth")
    assert files.read(tmp_path / "b.pth").norms["bn"].batches == 7


def test_what_a_batch_norm_has_besides_is_told(tmp_path):
    arrays = {f"bn.{name}": v for name, v in vectors().items()}
    arrays["bn.r_max"] = np.ones(1)
    training.save_weights(tmp_path / "a.safetensors", arrays)
    found = files.read(tmp_path / "a.safetensors")
    assert found.left == ("bn.r_max",)
    assert list(found.norms["bn"].state) == list(OURS)


@pytest.mark.parametrize("framework", ["torch", "jax"])
def test_a_view_is_written_as_it_reads(framework, tmp_path):
    state = {name: rng.uniform(0.5, 2, 6)[::2] for name in OURS}
    state["moving_var"] = rng.uniform(0.5, 2, (3, 2)).T[0]
    path = tmp_path / "a.safetensors"
    files.write(path, Content(framework, {"bn": Norm(state, {}, False, 1e-3, 0.1)}))
    assert_same(state_of(path, from_=framework), {"bn": state})


# --- Two names stay two --------------------------------------------------------------


def test_two_layers_that_differ_in_a_slash_stay_two(tmp_path):
    load_or_skip("torch"), load_or_skip("tensorflow")
    given = content("torch", **{"a/b": 3, "a.b": 4, "a/c": 5})
    files.write(tmp_path / "a.safetensors", given)
    expected = {path: norm.state for path, norm in given.norms.items()}
    assert_same(state_of(tmp_path / "a.safetensors"), expected)
    port(tmp_path / "a.safetensors", "torch", tmp_path / "b.pt")
    assert_same(state_of(tmp_path / "b.pt"), expected)
    message = "two names must stay two; a.b and a/b would both be a.b: rename one"
    with pytest.raises(ValueError, match=f"^{message}$"):
        port(tmp_path / "b.pt", "tensorflow", tmp_path / "b.weights.h5")
    del given.norms["a.b"], expected["a.b"]
    files.write(tmp_path / "b.pt", given)
    port(tmp_path / "b.pt", "tensorflow", tmp_path / "b.weights.h5")
    expected = {path.replace("/", "."): state for path, state in expected.items()}
    assert_same(state_of(tmp_path / "b.weights.h5"), expected)


def safetensors_names(path):
    arrays = {f"a/b/{k}": v for k, v in vectors().items()}
    arrays |= {f"a.b.{k}": v for k, v in vectors().items()}
    training.save_weights(path, arrays)
    return "a.b.beta", "a/b/beta", "a.b.beta"


def safetensors_without_a_layer(path):
    arrays = {f"bn.{k}": v for k, v in vectors().items()}
    training.save_weights(path, arrays | {".gamma": np.ones(3), "gamma": np.ones(3)})
    return ".gamma", "gamma", "gamma"


def collections_of_flax(path):
    names = "params.bn.scale", "params.bn.mean", "batch_stats.bn.mean"
    arrays = {name: np.ones(3) for name in (*names, "batch_stats.bn.var")}
    training.save_weights(path, arrays)
    return "batch_stats.bn.mean", "params.bn.mean", "bn.mean"


def tree_of_flax(path):
    load_or_skip("jax")
    from flax import serialization

    norm = {"mean": np.ones(3), "var": np.ones(3)}
    tree = {"batch_stats": {"a": {"b": norm}, "a.b": norm}}
    path.write_bytes(serialization.msgpack_serialize(tree))
    return "batch_stats/a/b/mean", "batch_stats/a.b/mean", "batch_stats.a.b.mean"


def spellings_of_gluon(path):
    mxnet = load_or_skip("mxnet") and __import__("mxnet")
    names = "arg:bn_gamma", "aux:bn_moving_mean", "aux:bn_running_mean"
    mxnet.npx.save(str(path), {name: mxnet.np.ones(3) for name in names})
    return "aux:bn_moving_mean", "aux:bn_running_mean", "bn.running_mean"


def names_of_keras(path):
    load_or_skip("tensorflow")
    import keras

    norm = keras.layers.BatchNormalization
    inner = keras.Sequential([keras.Input((3,)), norm(name="b")], name="a")
    layers = [keras.Input((3,)), inner, norm(name="a.b")]
    keras.Sequential(layers).save(path)
    inner = "/layers/sequential/layers/batch_normalization"
    return "/layers/batch_normalization", inner, "a.b"


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("a.safetensors", safetensors_names),
        ("a.safetensors", safetensors_without_a_layer),
        ("a.safetensors", collections_of_flax),
        ("a.msgpack", tree_of_flax),
        ("a.params", spellings_of_gluon),
        ("a.keras", names_of_keras),
    ],
)
def test_two_names_that_would_be_one_are_refused(name, make, tmp_path):
    path = tmp_path / name
    first, second, both = make(path)
    message = (
        f"{path} cannot be carried: two names must stay two; {first} and {second} "
        f"would both be {both}: rename one"
    )
    with pytest.raises(ValueError) as raised:
        files.read(path)
    assert str(raised.value) == message


def test_a_layer_beside_its_own_parameter(tmp_path):
    """In a tree of Flax a name is an array or holds arrays."""
    load_or_skip("jax")
    given = content("jax", **{"bn": 3, "bn.scale": 3})
    message = "params.bn.scale.scale would be inside an array: rename its layer"
    with pytest.raises(ValueError, match=f"^{message}$"):
        files.write(tmp_path / "a.msgpack", given)


def test_a_kernel_beside_a_weight_stays(tmp_path):
    arrays = {f"bn.{k}": v for k, v in vectors().items()}
    arrays |= {"conv.kernel": np.ones(2), "conv.weight": np.ones(3)}
    training.save_weights(tmp_path / "a.safetensors", arrays)
    others = files.read(tmp_path / "a.safetensors").others
    assert {k: v.size for k, v in others.items()} == {
        "conv.kernel": 2,
        "conv.weight": 3,
    }


# --- safetensors: whose names are these? ---------------------------------------------


@pytest.mark.parametrize(
    ("framework", "names"),
    [
        ("torch", ["bn.weight", "bn.running_mean", "bn.running_var"]),
        ("mxnet", ["bn.beta", "bn.running_mean", "bn.running_var"]),
        ("jax", ["params.bn.scale", "batch_stats.bn.mean", "batch_stats.bn.var"]),
        ("jax", ["params/bn/bias", "batch_stats/bn/mean", "batch_stats/bn/var"]),
        ("exchange", ["bn.gamma", "bn.moving_mean", "bn.moving_var"]),
    ],
)
def test_safetensors_tell_by_their_names(framework, names, tmp_path):
    arrays = {name: rng.uniform(0.5, 2, 3) for name in names}
    training.save_weights(tmp_path / "a.safetensors", arrays)
    found = files.read(tmp_path / "a.safetensors")
    assert found.framework == framework
    np.testing.assert_array_equal(
        found.norms["bn"].state["moving_var"], arrays[names[2]]
    )


def test_ambiguous_safetensors(tmp_path):
    path = tmp_path / "a.safetensors"
    names = ["conv.weight", "bn.running_mean", "bn.running_var"]
    training.save_weights(path, {name: np.ones(3) for name in names})
    message = (
        f"{path} cannot be carried: its names fit no framework, or several: give it, "
        "one of torch, tensorflow, jax, mxnet"
    )
    with pytest.raises(ValueError, match=f"^{message}$"):
        files.read(path)
    assert files.read(path, from_="mxnet").framework == "mxnet"


def test_a_layer_needs_its_numbers():
    vector = np.ones(2, np.float32)
    norm = Norm({"moving_mean": vector, "moving_var": vector}, eps=1e-3)
    with pytest.raises(ValueError) as raised:
        norm.numbers()
    assert str(raised.value) == "eps and momentum of a batch norm must be known"


def test_settings_that_are_none(tmp_path):
    import safetensors.numpy

    path = tmp_path / "a.safetensors"
    arrays = {f"bn.{name}": v for name, v in vectors().items()}
    for text, reason in (
        ("{", "Expecting property name"),
        ('{"bn": {"epsilon": 1}}', ".*unexpected keyword argument 'epsilon'"),
        ('{"bn": {"eps": "much"}}', "could not convert string to float: 'much'"),
        ("[]", "'list' object has no attribute 'items'"),
    ):
        safetensors.numpy.save_file(arrays, path, {"bn_from_scratch": text})
        message = f"^{path} cannot be carried: its settings cannot be read: {reason}"
        with pytest.raises(ValueError, match=message):
            files.read(path)


# --- The content tells, not the suffix -----------------------------------------------


RENAMED = [
    ("a.pt", "model.pth.tar"),
    ("a.pt", "pytorch_model.bin"),
    ("a.pt", "epoch=3.ckpt"),
    ("a.pt", "a.safetensors"),
    ("legacy.pt", "weights"),
    ("a.keras", "a.h5"),
    ("a.weights.h5", "a.keras"),
    ("a.weights.h5", "a.hdf5"),
    ("a.weights.h5", "best.ckpt"),
    ("a.msgpack", "checkpoint_10"),
    ("a.params", "a.params.bin"),
    ("a.safetensors", "a.bin"),
    ("a.safetensors", "a.pt"),
    ("a.npz", "a.ckpt"),
]


@pytest.mark.parametrize(("name", "renamed"), RENAMED)
def test_the_content_tells_the_format(name, renamed, tmp_path):
    framework = WRITTEN.get(name, "torch")
    load_or_skip(framework)
    given, path = content(framework), tmp_path / name
    if name in WRITTEN:
        files.write(path, given)
    elif name == "legacy.pt":
        import torch

        files.write(path, given)
        state = torch.load(path, weights_only=True)
        torch.save(state, path, _use_new_zipfile_serialization=False)
    else:
        np.savez(path, **{f"bn.{k}": v for k, v in given.norms["bn"].state.items()})
    path.rename(tmp_path / renamed)
    expected = {"bn": given.norms["bn"].state}
    assert_same(state_of(tmp_path / renamed), expected)
    assert files.target(tmp_path / renamed, "jax").name == (
        {"weights": "weights", "checkpoint_10": "checkpoint_10"}.get(
            renamed, renamed.removesuffix(".tar").rpartition(".")[0]
        )
        + ".msgpack"
    )


def script(path):
    import torch

    torch.jit.save(torch.jit.script(torch.nn.BatchNorm1d(3)), path)
    return (
        "it is a TorchScript archive, a program with its weights: "
        "torch.save(torch.jit.load(path).state_dict(), new_path), then carry that"
    )


def program(path):
    """As torch.export.save names what is in it; to run it takes 8 s."""
    with zipfile.ZipFile(path, "w") as file:
        for name in ("data/weights/weight_0", "models/model.json", "archive_format"):
            file.writestr(f"a/{name}", "")
    return (
        "it is a program of torch.export with its weights: "
        "torch.save(torch.export.load(path).state_dict, new_path), then carry that"
    )


def pointer(path):
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:12\n")
    return "it is a pointer of Git LFS: fetch the file itself"


def web_page(path):
    path.write_text("<!DOCTYPE html><title>Sign in</title>")
    return "it is a web page: download the file itself"


def index(path):
    weights = {"bn.weight": "model-00001-of-00002.safetensors"}
    path.write_text(json.dumps({"metadata": {"total_size": 9}, "weight_map": weights}))
    return "it is the index of a model in several files: carry each"


def packed(path):
    path.write_bytes(gzip.compress(b"weights"))
    return "it is packed by gzip: unpack it first"


def archive(path):
    with tarfile.open(path, "w") as file:
        file.addfile(tarfile.TarInfo("weights"))
    return "it is a tar archive: unpack it first"


def checkpoint(path):
    path.write_bytes(bytes(100) + b"\x57\xfb\x80\x8b\x24\x75\x47\xdb")
    return (
        "it is a checkpoint of TensorFlow: load it into the model, "
        'then model.save("x.keras")'
    )


@pytest.mark.filterwarnings("ignore:`torch.jit")
@pytest.mark.parametrize(
    "make", [script, program, pointer, web_page, index, packed, archive, checkpoint]
)
@pytest.mark.parametrize("name", ["a.pt2", "a.keras"])
def test_what_holds_no_plain_weights_is_told(make, name, tmp_path):
    if make is script:
        load_or_skip("torch")
    path = tmp_path / name
    reason = make(path)
    with pytest.raises(ValueError) as raised:
        files.read(path)
    assert str(raised.value) == f"{path} cannot be carried: {reason}"


# --- Wrong files ---------------------------------------------------------------------


class Malice:
    def __reduce__(self):
        return exec, ("import builtins; builtins.executed = True",)


@pytest.mark.parametrize("zipped", [True, False])
def test_pickled_code_never_runs(zipped, tmp_path):
    load_or_skip("torch")
    import builtins

    import torch

    vars(builtins).pop("executed", None)
    path = tmp_path / "a.pt"
    state = {"bn.weight": torch.ones(3), "malice": Malice()}
    torch.save(state, path, _use_new_zipfile_serialization=zipped)
    message = (
        f"{path} cannot be carried: it needs exec, and code that a file "
        r"brings is never run: torch.save\(model.state_dict\(\), path\)"
    )
    with pytest.raises(ValueError, match=f"^{message}$"):
        port(path, "torch", tmp_path / "b.pt")
    path.write_bytes(pickle.dumps(Malice(), protocol=2))
    with pytest.raises(ValueError, match="cannot be carried"):
        port(path, "torch", tmp_path / "b.pt")
    assert not hasattr(builtins, "executed")
    assert not (tmp_path / "b.pt").exists()


WRITTEN = {
    "a.pt": "torch",
    "a.keras": "tensorflow",
    "a.weights.h5": "tensorflow",
    "a.msgpack": "jax",
    "a.params": "mxnet",
    "a.safetensors": "torch",
}


@pytest.mark.parametrize("name", WRITTEN)
def test_truncated_and_foreign_files(name, tmp_path):
    """A clear error whatever is cut off; an existing target keeps its content."""
    load_or_skip(WRITTEN[name]), load_or_skip("torch")
    path, target = tmp_path / name, tmp_path / "target.pt"
    files.write(path, content(WRITTEN[name]))
    whole = path.read_bytes()
    target.write_text("precious")
    cuts = {0, 1, 4, 8, 16, 24, 30, 64, 100, len(whole) // 2, len(whole) - 1}
    wrong = [whole[:n] for n in sorted(cuts)] + [PNG, b"hello", bytes(1000)]
    for blob in wrong:
        path.write_bytes(blob)
        with pytest.raises(ValueError, match=f"^{path} cannot be carried: .+"):
            port(path, "torch", target, overwrite=True)
    assert target.read_text() == "precious"
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([name, "target.pt"])


MESSAGES = {
    "a.pt": "PyTorch cannot read it: ",
    "a.keras": "it is no whole zip of Keras: File is not a zip file$",
    "a.weights.h5": "HDF5 cannot read it: .*file signature not found",
    "a.msgpack": "Flax cannot read it: ",
    "a.params": "MXNet cannot read it: .*Invalid NDArray file format",
    "a.safetensors": "safetensors cannot read it: .*header too large",
}


@pytest.mark.parametrize("name", WRITTEN)
def test_a_picture_by_another_name(name, tmp_path):
    load_or_skip(WRITTEN[name])
    (tmp_path / name).write_bytes(PNG)
    message = f"^{tmp_path / name} cannot be carried: {MESSAGES[name]}"
    with pytest.raises(ValueError, match=message):
        files.read(tmp_path / name)


def test_flipped_bytes_of_gluon_do_not_crash(tmp_path):
    load_or_skip("mxnet")
    path = tmp_path / "a.params"
    files.write(path, content("mxnet"))
    whole = path.read_bytes()
    for place in rng.integers(0, len(whole), 60):
        blob = bytearray(whole)
        blob[place] ^= 1 << rng.integers(8)
        path.write_bytes(blob)
        try:
            files.read(path)
        except ValueError as error:
            assert str(error).startswith(f"{path} cannot be carried: ")


def test_a_file_without_batch_norms(tmp_path):
    load_or_skip("torch"), load_or_skip("tensorflow")
    import h5py
    import torch
    from torch import nn

    path = tmp_path / "a.pt"
    torch.save(nn.Linear(2, 3).state_dict(), path)
    message = "cannot be carried: there is no batch norm in it; it has"
    with pytest.raises(ValueError, match=f"^{path} {message} weight, bias$"):
        port(path, "torch", tmp_path / "b.pt")
    torch.save(torch.ones(3), path)
    reason = r"it holds no state_dict: torch.save\(model.state_dict\(\), path\)"
    with pytest.raises(ValueError, match=f"^{path} cannot be carried: {reason}$"):
        port(path, "torch", tmp_path / "b.pt")
    path = tmp_path / "a.weights.h5"
    with h5py.File(path, "w") as file:
        file["measurements"] = np.ones(3)
    with pytest.raises(ValueError, match=f"^{path} {message} nothing$"):
        port(path, "torch", tmp_path / "b.pt")


def test_hdf5_does_not_reach_out(tmp_path):
    """Neither a link to another file nor data in one: a file could read any other."""
    load_or_skip("tensorflow")
    import h5py

    files.write(tmp_path / "secret.weights.h5", content("tensorflow"))
    (tmp_path / "secret").write_bytes(bytes(12))
    path = tmp_path / "a.weights.h5"
    with h5py.File(path, "w") as file:
        link = h5py.ExternalLink("secret.weights.h5", "/layers")
        file["layers"] = link
    with pytest.raises(ValueError, match="there is no batch norm in it"):
        files.read(path)
    with h5py.File(path, "w") as file:
        group = file.create_group("bn/vars")
        outside = [(str(tmp_path / "secret"), 0, 12)]
        group.create_dataset("0", (3,), "float32", external=outside)
    with pytest.raises(ValueError, match=r"/bn/vars/0 is not in the file$"):
        files.read(path)
    with h5py.File(path, "w") as file:
        link = h5py.ExternalLink("secret.weights.h5", "/layers/batch_normalization")
        file["bn/vars/0"] = link
    with pytest.raises(ValueError, match=r"/bn/vars/0 is not in the file$"):
        files.read(path)


def test_an_array_larger_than_its_file_is_not_made(tmp_path):
    """HDF5 writes nothing of what is all zeros: a terabyte has a few bytes."""
    load_or_skip("tensorflow")
    import h5py

    path = tmp_path / "a.weights.h5"
    with h5py.File(path, "w") as file:
        group = file.create_group("bn/vars")
        for i in range(4):
            group.create_dataset(str(i), (10**6,), "float32", chunks=(1000,))
    message = f"^{path} cannot be carried: /bn/vars/0 is not in the file$"
    with pytest.raises(ValueError, match=message):
        files.read(path)


def test_arrays_of_gluon_without_names(tmp_path):
    load_or_skip("mxnet")
    import mxnet

    path = tmp_path / "a.params"
    mxnet.npx.save(str(path), [mxnet.np.ones(3), mxnet.np.zeros(3)])
    reason = r"its arrays have no names: net.save_parameters\(path\)"
    with pytest.raises(ValueError, match=f"^{path} cannot be carried: {reason}$"):
        files.read(path)


@pytest.mark.parametrize("tree", [{"model": {"mean": 1}}, {"params": 3}, [1]])
def test_a_file_of_flax_with_no_variables(tmp_path, tree):
    load_or_skip("jax")
    from flax import serialization

    path = tmp_path / "a.msgpack"
    path.write_bytes(serialization.msgpack_serialize(tree))
    reason = "it holds no {'params': ..., 'batch_stats': ...}"
    if isinstance(tree, dict):
        reason += f"; it holds {next(iter(tree))}"
    with pytest.raises(ValueError, match=f"^{path} cannot be carried: {reason}$"):
        files.read(path)


def test_a_keras_file_whose_parts_contradict(tmp_path):
    load_or_skip("tensorflow")
    import h5py

    path = tmp_path / "a.keras"
    files.write(path, content("tensorflow"))
    with zipfile.ZipFile(path) as file:
        config = file.read("config.json")
    files.write(tmp_path / "b.weights.h5", content("tensorflow"))
    with h5py.File(tmp_path / "b.weights.h5", "a") as file:
        del file["layers/batch_normalization/vars/3"]
    weights = (tmp_path / "b.weights.h5").read_bytes()
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("config.json", config)
        file.writestr("model.weights.h5", weights)
    message = f"^{path} cannot be carried: bn must have 4 arrays; it has 3$"
    with pytest.raises(ValueError, match=message):
        files.read(path)


def test_a_keras_file_without_its_parts(tmp_path):
    path, blob = tmp_path / "a.keras", io.BytesIO()
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("holiday.txt", "sun")
    pytest.importorskip("h5py")
    message = f"^{path} cannot be carried: it is no whole zip of Keras: .*config.json"
    with pytest.raises(ValueError, match=message):
        files.read(path)
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("config.json", '{"config": {"layers": [7]}}')
        file.writestr("model.weights.h5", blob.getvalue())
    with pytest.raises(ValueError, match=r"its config\.json cannot be read: "):
        files.read(path)


def test_vectors_of_different_lengths(tmp_path):
    path = tmp_path / "a.safetensors"
    arrays = {f"bn.{name}": v for name, v in vectors().items()}
    training.save_weights(path, arrays | {"bn.beta": np.ones(4)})
    message = (
        f"{path} cannot be carried: the state of a batch norm is vectors of one "
        r"length; bn.beta has shape \(4,\), moving_mean \(3,\)"
    )
    with pytest.raises(ValueError, match=f"^{message}$"):
        files.read(path)


# --- Paths ---------------------------------------------------------------------------


def test_an_existing_target_is_not_overwritten(tmp_path):
    load_or_skip("torch")
    files.write(tmp_path / "a.pt", content("torch"))
    target = tmp_path / "b.pt"
    target.write_text("precious")
    message = f"^{target} exists; it is overwritten only on request$"
    with pytest.raises(FileExistsError, match=message):
        port(tmp_path / "a.pt", "torch", target)
    assert target.read_text() == "precious"
    port(tmp_path / "a.pt", "torch", target, overwrite=True)
    assert_same(state_of(target), state_of(tmp_path / "a.pt"))


def test_a_target_that_comes_meanwhile_is_not_overwritten(tmp_path, monkeypatch):
    load_or_skip("torch")
    files.write(tmp_path / "a.pt", content("torch"))
    target, check = tmp_path / "b.pt", proof.check

    def slow(*args):
        check(*args)
        target.write_text("precious")

    monkeypatch.setattr(proof, "check", slow)
    message = f"^{target} exists; it is overwritten only on request$"
    with pytest.raises(FileExistsError, match=message):
        port(tmp_path / "a.pt", "torch", target)
    assert target.read_text() == "precious"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.pt", "b.pt"]


@pytest.mark.parametrize("lost", ["norms", "others"])
def test_a_file_that_comes_back_with_other_layers(tmp_path, monkeypatch, lost):
    load_or_skip("torch")
    given = content("torch", **network.NORMS)
    given = replace(given, others=lenet.initial_weights())
    files.write(tmp_path / "a.pt", given)
    write = files.write

    def forgetful(path, content):
        kept = dict(list(getattr(content, lost).items())[1:])
        write(path, replace(content, **{lost: kept}))

    monkeypatch.setattr(files, "write", forgetful)
    message = "^what was written came back with other layers; it was removed$"
    with pytest.raises(ValueError, match=message):
        port(tmp_path / "a.pt", "torch", tmp_path / "b.pt")
    assert [p.name for p in tmp_path.iterdir()] == ["a.pt"]


@pytest.mark.parametrize(
    ("source", "to", "out", "message"),
    [
        (
            "a.pt",
            "caffe",
            None,
            "a file can be carried to torch, tensorflow, jax, mxnet",
        ),
        (
            "a.pt",
            "jax",
            "b.pt",
            "a file of Flax ends in .msgpack or .safetensors; got b",
        ),
        (
            "a.pt",
            "tensorflow",
            "b.safetensors",
            "a file of Keras ends in .keras or .wei",
        ),
    ],
)
def test_suffixes(source, to, out, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        port(source, to, out)


def test_a_source_of_no_known_format(tmp_path):
    for name in ("a.onnx", "a.ckpt", "a"):
        (tmp_path / name).write_bytes(PNG)
        message = (
            f"{tmp_path / name} cannot be carried: its content is of no format known "
            "here, of .pt, .pth, .keras, .weights.h5, .h5, .hdf5, .msgpack, .params, "
            ".safetensors, .npz"
        )
        with pytest.raises(ValueError, match=f"^{message}$"):
            port(tmp_path / name, "torch", tmp_path / "b.pt")


def test_sources_and_folders_that_are_not_there(tmp_path):
    load_or_skip("torch")
    with pytest.raises(FileNotFoundError, match="No such file or directory"):
        port(tmp_path / "a.pt", "torch", tmp_path / "b.pt")
    (tmp_path / "a.pt").mkdir()
    with pytest.raises(IsADirectoryError):
        port(tmp_path / "a.pt", "torch", tmp_path / "b.pt")
    with pytest.raises(FileNotFoundError, match=f"^there is no folder {tmp_path}/no$"):
        port(tmp_path / "a.pt", "torch", tmp_path / "no" / "b.pt")


def test_a_file_is_of_the_framework_that_was_said(tmp_path):
    path = tmp_path / "a.pt"
    with pytest.raises(ValueError, match=f"^{path} is a file of PyTorch, not of jax$"):
        files.read(path, from_="jax")


def test_a_port_does_not_replace_its_own_source(tmp_path):
    load_or_skip("torch")
    path, link = tmp_path / "a.pt", tmp_path / "b.pt"
    files.write(path, content("torch"))
    link.symlink_to(path)
    for out in (path, link):
        message = (
            f"^{out} is the source itself, of which not all is carried; write to "
            "another file$"
        )
        with pytest.raises(FileExistsError, match=message):
            port(path, "torch", out, overwrite=True)


def test_a_link_is_replaced_on_request_and_what_it_leads_to_stays(tmp_path):
    load_or_skip("torch")
    files.write(tmp_path / "a.pt", content("torch"))
    link, other = tmp_path / "b.pt", tmp_path / "other.pt"
    link.symlink_to("other.pt")  # which is not there
    with pytest.raises(FileExistsError, match=r"is overwritten only on request$"):
        port(tmp_path / "a.pt", "torch", link)
    other.write_text("precious")
    report = port(tmp_path / "a.pt", "torch", link, overwrite=True)
    assert other.read_text() == "precious"
    assert report.notes[-1] == (
        f"{link} was a link to other.pt; now it is a file, and other.pt is as it was"
    )
    link.unlink()
    link.mkdir()
    message = f"^a file is to be written; {link} is a folder$"
    with pytest.raises(IsADirectoryError, match=message):
        port(tmp_path / "a.pt", "torch", link, overwrite=True)


def test_names_do_not_reach_the_terminal_raw(tmp_path):
    load_or_skip("torch")
    name = "bn\x1b[2J\nBoth sides agree\u202e"
    files.write(tmp_path / "a.pt", content("torch", **{name: 3}))
    report = port(tmp_path / "a.pt", "torch", tmp_path / "b.safetensors")
    mode = (tmp_path / "b.safetensors").stat().st_mode
    (tmp_path / "plain").touch()
    assert mode == (tmp_path / "plain").stat().st_mode
    for text in (str(report), str(health(tmp_path / "b.safetensors"))):
        assert "\x1b" not in text and "\u202e" not in text
        assert r"bn\x1b[2J\nBoth sides agree\u202e" in text
