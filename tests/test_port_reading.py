"""What a file says, what is assumed where it says nothing, and what is checked."""

import json
import re

import numpy as np
import pytest
from conftest import load_or_skip, small_garments

from bn_from_scratch import backends, training
from bn_from_scratch.health import health
from bn_from_scratch.port import files, network, port, translate
from bn_from_scratch.port.content import OURS, Content, Norm

rng = np.random.default_rng(0)
TORCH = ("weight", "bias", "running_mean", "running_var")


def state(C=3, **changes):
    found = {name: rng.uniform(0.5, 2, C).astype("float32") for name in OURS}
    return found | {name: np.asarray(v) for name, v in changes.items()}


def in_torch(path, **changes):
    """A file of PyTorch, which says neither eps nor momentum."""
    load_or_skip("torch")
    import torch

    arrays = state(**changes).values()
    named = zip(TORCH, map(torch.from_numpy, arrays), strict=True)
    torch.save({f"bn.{name}": v for name, v in named}, path)
    return path


def in_safetensors(path, said=None, **changes):
    arrays = {f"bn.{name}": v for name, v in state(**changes).items()}
    training.save_weights(path, arrays, {"bn": said} if said else None)
    return path


# --- What is assumed -----------------------------------------------------------------


def test_the_last_line_says_what_was_assumed(tmp_path):
    var = np.array([1, 1e-3, 0.5], "float32")
    path = in_torch(tmp_path / "a.pt", moving_var=var)
    report = port(path, "torch", tmp_path / "b.pt")
    last = str(report).splitlines()[-1]
    assert last == (
        "Both sides agree, if eps is 1e-05 (assumed; with 1e-3 the output would differ "
        "by up to 29%, in bn) and momentum is 0.1 (assumed; it matters in training "
        f"alone): worst {report.largest:.1e}."
    )
    eps, momentum = json.loads(json.dumps(report.as_dict()))["assumed"]
    assert eps.pop("change") == pytest.approx(1 - np.sqrt(1.01 / 2), rel=1e-6)
    assert eps == {"setting": "eps", "value": 1e-5, "layers": ["bn"], "otherwise": 1e-3}
    assert momentum == {"setting": "momentum", "value": 0.1, "layers": ["bn"]}


def test_what_hangs_on_eps_is_what_the_layer_answers(tmp_path):
    import torch

    var = np.array([2, 3e-4, 0.01], "float32")
    path = in_torch(tmp_path / "a.pt", moving_var=var)
    report = port(path, "torch", tmp_path / "b.pt")
    answers = []
    for eps in (1e-5, 1e-3):
        layer = torch.nn.BatchNorm1d(3, eps=eps).eval()
        named = torch.load(path, weights_only=True).items()
        state_dict = {name.removeprefix("bn."): v for name, v in named}
        layer.load_state_dict(state_dict, strict=False)
        X = layer.running_mean + torch.linspace(-2, 2, 7)[:, None]
        answers.append((layer(X) - layer.bias).detach().numpy())
    right, other = np.delete(answers, 3, axis=1)  # where X is the mean
    assert report.assumed[0].change == pytest.approx(
        np.abs(other / right - 1).max(), rel=1e-4
    )


@pytest.mark.parametrize(
    ("framework", "eps", "other"),
    [
        ("tensorflow", "0.001", "1e-5"),
        ("jax", "1e-05", "1e-3"),
        ("mxnet", "1e-05", "1e-3"),
    ],
)
def test_each_framework_has_its_default(framework, eps, other):
    norms = {"bn": Norm(state(), {}), "other": Norm(state(), {}, eps=0.1)}
    _, (assumed, _) = translate.complete(Content(framework, norms))
    start = f"eps is {eps} in bn (assumed; with {other} the output would differ by up"
    assert str(assumed).startswith(start)


def test_nothing_is_assumed_of_what_is_stated(tmp_path):
    path = in_torch(tmp_path / "a.pt")
    out = tmp_path / "b.pt"
    stated = {"eps": 1e-3, "momentum": 0.1}
    for given in ({}, {"eps": 1e-3}, {"momentum": 0.1}):
        report = port(path, "torch", out, strict=True, **given)
        assert report.written is None
        assert not out.exists()
        assert {a.name for a in report.assumed} == stated.keys() - given.keys()
        assert "-> nothing written (PyTorch)" in str(report)
    report = port(path, "torch", out, strict=True, **stated)
    assert (report.assumed, report.written) == ([], str(out))
    assert str(report).splitlines()[-1].startswith("Both sides agree: worst ")
    report = port(out, "torch", tmp_path / "c.safetensors", strict=True)
    assert report.written  # the file that we wrote says both


@pytest.mark.parametrize("setting", [{"eps": -1}, {"eps": 0}, {"eps": np.inf}])
def test_an_eps_that_cannot_be(setting, tmp_path):
    path = in_torch(tmp_path / "a.pt")
    message = f"^eps must be positive and finite; it is {setting['eps']:g}$"
    for use in (lambda: port(path, "torch", tmp_path / "b.pt", **setting),):
        with pytest.raises(ValueError, match=message):
            use()
    with pytest.raises(ValueError, match=message):
        health(path, **setting)


# --- Our own files say it ------------------------------------------------------------


@pytest.mark.parametrize(
    ("framework", "norm"),
    [("torch", "scratch"), *((name, "builtin") for name in backends.NAMES)],
)
def test_our_own_weights_carry_their_settings(framework, norm, tmp_path):
    bn = load_or_skip(framework)
    make = bn.BatchNorm if norm == "scratch" else bn.builtin

    def other(*sizes, **named):
        return make(*sizes, eps=1e-4, momentum=0.3, **named)

    trainer = bn.Trainer(progress=False, compile=False, device="cpu")
    trainer.prepare(bn.LeNet(other))
    path = tmp_path / "weights.safetensors"
    trainer.save_weights(path)
    found = network.settle(files.read(path))
    _, assumed = translate.complete(found)
    assert assumed == []
    unbiased = framework == "torch" and norm == "builtin"
    for layer in found.norms.values():
        assert (layer.eps, layer.momentum) == (1e-4, 0.3)
        assert layer.correction == unbiased
    np.testing.assert_equal(training.load_weights(path), trainer.get_weights())


def test_a_checkpoint_of_a_training_carries_its_settings(tmp_path):
    bn = load_or_skip("torch")
    path = tmp_path / "weights.safetensors"
    options = {"max_epochs": 1, "batch_size": 64, "device": "cpu", "progress": False}
    trainer = bn.Trainer(checkpoint=path, **options)
    trainer.fit(bn.LeNet(bn.BatchNorm), small_garments())
    assert files.read(path).norms["bn1"].eps == 1e-5
    trainer.fit(bn.LeNet(None), small_garments())  # without any
    assert set(training.load_weights(path)) == set(trainer.get_weights())


def test_the_correction_of_our_layer_is_carried(tmp_path):
    load_or_skip("torch"), load_or_skip("jax")
    norm = Norm(state(), {}, True, 1e-3, 0.1, correction=1)
    files.write(tmp_path / "a.pt", Content("torch", {"bn": norm}))
    report = port(tmp_path / "a.pt", "jax", tmp_path / "b.safetensors", values=4)
    assert (
        "make bn with BatchNorm(eps=0.001, momentum=0.1, correction=1)" in report.notes
    )
    found = files.read(tmp_path / "b.safetensors", "jax").norms["bn"]
    assert found.correction == 1
    np.testing.assert_array_equal(found.state["moving_var"], norm.state["moving_var"])


def test_a_layer_that_predicts_by_the_batch(tmp_path):
    said = {"eps": 1e-3, "momentum": 0.1, "statistics": "batch"}
    path = in_safetensors(tmp_path / "a.safetensors", said)
    message = (
        f"{path} cannot be carried: bn predicts by the statistics of the batch "
        r"\(statistics='batch'\); elsewhere it would by the moving ones"
    )
    with pytest.raises(ValueError, match=f"^{message}$"):
        port(path, "torch", tmp_path / "b.pt")
    (row,) = health(path).rows
    assert [symptom.name for symptom, _ in row.symptoms] == ["no statistics"]


# --- One reading for all commands ----------------------------------------------------


FLOATS = "the state of a batch norm is floats of 16, 32 or 64 bits; bn."
WRONG = {
    "negative": ({"moving_var": [1, -0.5, 1]}, "moving_var has -0.5"),
    "complex": ({"moving_mean": [1j, 1, 1]}, FLOATS + "moving_mean is complex128"),
    "integers": ({"moving_var": [1, 2, 3]}, FLOATS + "moving_var is int64"),
    "booleans": ({"gamma": [True] * 3}, FLOATS + "gamma is bool"),
    "longer": ({"gamma": [1.0] * 4}, "bn.gamma has shape (4,), moving_mean (3,)"),
    "scalars": ({"beta": 1.0}, "bn.beta has shape (), moving_mean (3,)"),
    "matrices": ({"moving_var": np.ones((3, 1))}, "moving_var has shape (3, 1), m"),
}


@pytest.mark.parametrize("name", WRONG)
def test_health_and_port_refuse_the_same_files(name, tmp_path):
    changes, reason = WRONG[name]
    path = tmp_path / "a.npz"
    np.savez(path, **{f"bn.{name}": v for name, v in state(**changes).items()})
    errors = []
    for use in (lambda: port(path, "torch", tmp_path / "b.pt"), lambda: health(path)):
        with pytest.raises(ValueError) as raised:
            use()
        errors.append(str(raised.value))
    assert errors[1] == errors[0].replace("carried", "examined")
    assert errors[0].startswith(f"{path} cannot be carried: ")
    assert reason in errors[0]


SETTINGS = {
    "momentum": "momentum of bn, the weight of the new batch, must lie between 0 and 1",
    "eps": "eps of bn must be positive and finite",
}


@pytest.mark.parametrize(
    ("name", "value"),
    [("momentum", 9), ("momentum", -0.1), ("eps", 0), ("eps", np.nan), ("eps", np.inf)],
)
def test_settings_that_cannot_be(name, value, tmp_path):
    path = in_safetensors(tmp_path / "a.safetensors", {name: value})
    message = re.escape(f"{SETTINGS[name]}; it is {value:g}")
    with pytest.raises(ValueError, match=f"^{path} cannot be carried: {message}$"):
        port(path, "torch", tmp_path / "b.pt")
    with pytest.raises(ValueError, match=f"^{path} cannot be examined: {message}$"):
        health(path)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("name", OURS)
def test_numbers_that_are_none(name, value, tmp_path):
    """They are a symptom, and cannot be carried."""
    path = in_safetensors(tmp_path / "a.safetensors", **{name: [1, value, 1.0]})
    message = (
        f"^{path} cannot be carried: the state of a batch norm must be finite; "
        f"bn.{name} is not in 1 of 3 channels$"
    )
    with pytest.raises(ValueError, match=message):
        port(path, "torch", tmp_path / "b.pt")
    (row,) = health(path).rows
    assert row.symptoms[0][0].name == "not numbers"


@pytest.mark.parametrize("count", [[1, 2], -1, 1j])
def test_a_count_that_is_none(count, tmp_path):
    path = tmp_path / "a.npz"
    arrays = dict(zip(TORCH, state().values(), strict=True))
    arrays["num_batches_tracked"] = np.asarray(count)
    np.savez(path, **{f"bn.{name}": v for name, v in arrays.items()})
    with pytest.raises(ValueError, match="num_batches_tracked must be one number"):
        files.read(path)


def test_health_says_how_much_hangs_on_eps(tmp_path):
    path = in_torch(tmp_path / "a.pt", moving_var=np.array([1, 1e-3, 1], "float32"))
    found = health(path)
    assert found.well
    note = (
        "the file does not say eps: between 1e-5 and 1e-3 the output would change by "
        "up to 29%, in bn (state it: eps)"
    )
    assert str(found).splitlines()[-1] == note
    assert found.as_dict()["notes"] == [note]
    found = health(path, eps=1e-3)
    assert found.notes == []
    assert not found.well  # a variance of 1e-3 is near it
    path = in_torch(tmp_path / "a.pt", moving_var=np.array([1, 5e-5, 1], "float32"))
    (row,) = health(path).rows
    assert dict((s.name, text) for s, text in row.symptoms)["variance near eps"] == (
        "1 of 3 channels with a variance below 10 eps "
        "(eps is not said; if it is 1e-05, smallest variance 5.0e-05)"
    )


def test_half_of_the_statistics(tmp_path):
    path = tmp_path / "a.npz"
    arrays = dict(zip(TORCH, state().values(), strict=True))
    arrays["num_batches_tracked"] = np.array(3)
    del arrays["running_var"]
    np.savez(path, **{f"bn.{name}": v for name, v in arrays.items()})
    (row,) = health(path).rows
    assert [(s.name, text) for s, text in row.symptoms] == [
        (
            "statistics missing",
            "there is gamma and beta and moving_mean, but no moving variance",
        )
    ]


# --- 16 bits -------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("framework", [*backends.NAMES, "safetensors", "h5"])
def test_floats_of_16_bits(dtype, framework, tmp_path):
    """Are read as float32, each by its value."""
    values = {"gamma": [1.5, -2], "beta": [0, 1], "moving_mean": [3, 0.25]}
    values["moving_var"] = [0.5, 2]
    path = IN_16_BITS[framework](tmp_path, dtype, values)
    found = files.read(path)
    (norm,) = found.norms.values()
    for name, v in norm.state.items():
        assert v.dtype == "float32"
        assert v.tolist() == values[name]
    assert found.narrow == (dtype,)
    if framework == "torch":
        report = port(path, "torch", tmp_path / "b.pt")
        assert report.notes[0] == f"{dtype} in the file: read as float32"


def torch_in_16_bits(folder, dtype, values, suffix=".pt"):
    load_or_skip("torch")
    import torch
    from safetensors.torch import save_file

    tensors = [torch.tensor(v, dtype=getattr(torch, dtype)) for v in values.values()]
    named = {f"bn.{name}": v for name, v in zip(TORCH, tensors, strict=True)}
    save = torch.save if suffix == ".pt" else save_file
    save(named, folder / f"a{suffix}")
    return folder / f"a{suffix}"


def keras_in_16_bits(folder, dtype, values, suffix=".weights.h5"):
    load_or_skip("tensorflow")
    import keras

    layer = keras.layers.BatchNormalization(dtype=dtype, name="bn")
    model = keras.Sequential([keras.Input((2,)), layer])
    layer.set_weights([np.array(v) for v in values.values()])
    path = folder / f"a{suffix}"
    model.save(path) if suffix == ".h5" else model.save_weights(path)
    return path


def flax_in_16_bits(folder, dtype, values):
    load_or_skip("jax")
    import jax.numpy as jnp
    from flax import serialization

    gamma, beta, mean, var = (np.asarray(jnp.array(v, dtype)) for v in values.values())
    tree = {"params": {"bn": {"scale": gamma, "bias": beta}}}
    tree["batch_stats"] = {"bn": {"mean": mean, "var": var}}
    (folder / "a.msgpack").write_bytes(serialization.msgpack_serialize(tree))
    return folder / "a.msgpack"


def gluon_in_16_bits(folder, dtype, values):
    if dtype == "bfloat16":
        pytest.skip("MXNet's own arrays of it cannot be made from numbers")
    load_or_skip("mxnet")
    import mxnet

    names = "gamma", "beta", "running_mean", "running_var"
    arrays = [mxnet.np.array(v, dtype=dtype) for v in values.values()]
    named = {f"bn.{name}": v for name, v in zip(names, arrays, strict=True)}
    mxnet.npx.save(str(folder / "a.params"), named)
    return folder / "a.params"


IN_16_BITS = {
    "torch": torch_in_16_bits,
    "tensorflow": keras_in_16_bits,
    "jax": flax_in_16_bits,
    "mxnet": gluon_in_16_bits,
    "safetensors": lambda *given: torch_in_16_bits(*given, ".safetensors"),
    "h5": lambda *given: keras_in_16_bits(*given, ".h5"),
}


def test_floats_of_8_bits_are_refused_by_name(tmp_path):
    load_or_skip("torch")
    values = {name: [1, 2] for name in OURS}
    path = torch_in_16_bits(tmp_path, "float8_e4m3fn", values, ".safetensors")
    message = "NumPy has no F8_E4M3, the dtype of bn."
    with pytest.raises(ValueError, match=message):
        files.read(path)


# --- Checkpoints ---------------------------------------------------------------------


def checkpoints(state_dict, optimizer):
    """(what is saved, the batch norms, what is not carried)"""
    linear = {"linear.weight": state_dict["0.weight"]}
    yield state_dict, ["1"], []
    for key in ("state_dict", "model_state_dict", "model", "net", "anything"):
        yield {key: state_dict, "epoch": 3}, ["1"], ["epoch"]
    yield (
        {**state_dict, "epoch": 3, "optimizer": optimizer},
        ["1"],
        ["epoch", "optimizer"],
    )
    yield {"weights": {"model": state_dict}, "lr": 0.1}, ["1"], ["lr"]
    yield {"backbone": state_dict, "head": linear}, ["1"], ["head"]
    yield {"model": state_dict, "ema": state_dict}, ["1"], ["ema"]
    yield {"a": state_dict, "b": state_dict, "c": 1}, ["a.1", "b.1"], ["c"]
    yield {"model": state_dict, "net": state_dict}, ["model.1", "net.1"], []


def test_a_state_dict_is_found_in_a_checkpoint(tmp_path):
    load_or_skip("torch")
    import torch

    model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(4, 2)).sum().backward()
    optimizer.step()
    for saved, norms, left in checkpoints(model.state_dict(), optimizer.state_dict()):
        torch.save(saved, tmp_path / "a.pth.tar")
        found = files.read(tmp_path / "a.pth.tar")
        assert (list(found.norms), list(found.left)) == (norms, left)
    torch.save({"epoch": 3, "optimizer": optimizer.state_dict()}, tmp_path / "a.pt")
    message = (
        "cannot be carried: it holds no state_dict, but epoch, optimizer: "
        r"torch.save\(model.state_dict\(\), path\)"
    )
    with pytest.raises(ValueError, match=f"^{tmp_path}/a.pt {message}$"):
        files.read(tmp_path / "a.pt")


def test_our_settings_are_found_in_a_checkpoint(tmp_path):
    load_or_skip("torch")
    import torch

    norm = Norm(state(), {}, False, 1e-3, 0.3)
    files.write(tmp_path / "a.pt", Content("torch", {"bn": norm}))
    saved = {"epoch": 3, "net": torch.load(tmp_path / "a.pt", weights_only=True)}
    torch.save(saved, tmp_path / "b.ckpt")
    assert files.read(tmp_path / "b.ckpt").norms["bn"].eps == 1e-3


def test_the_state_of_an_nnx_module(tmp_path):
    load_or_skip("jax")
    from flax import serialization

    gamma, beta, mean, var = state().values()
    norm = {"bias": beta, "mean": mean, "scale": gamma, "var": var}
    tree = {"blocks": {"0": norm}, "fc": {"kernel": np.ones((3, 2))}}
    path = tmp_path / "a.msgpack"
    path.write_bytes(serialization.msgpack_serialize(tree))
    found = files.read(path)
    np.testing.assert_array_equal(found.norms["blocks.0"].state["moving_var"], var)
    assert list(found.others) == ["fc.weight"]


def test_variables_are_found_in_a_checkpoint_of_flax(tmp_path):
    load_or_skip("jax")
    from flax import serialization

    gamma, _, mean, var = state().values()
    variables = {"params": {"bn": {"scale": gamma}}}
    variables["batch_stats"] = {"bn": {"mean": mean, "var": var}}
    path = tmp_path / "checkpoint_3"
    path.write_bytes(serialization.msgpack_serialize({"step": 3, "model": variables}))
    found = files.read(path)
    assert (list(found.norms), found.left) == (["bn"], ("step",))
    two = {"model": variables, "ema": variables}
    path.write_bytes(serialization.msgpack_serialize(two))
    with pytest.raises(ValueError, match=r"it holds no .*; it holds ema, model$"):
        files.read(path)
