"""Files carried from framework to framework: the same predictions, and A -> B -> A."""

import functools
import itertools
import json
import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from conftest import load_or_skip, small_garments
from hypothesis import HealthCheck, example, given
from hypothesis import strategies as st
from properties import tried

from bn_from_scratch import backends, lenet, training
from bn_from_scratch.backends.norms import norm_layer
from bn_from_scratch.case import make_case
from bn_from_scratch.port import (
    Report,
    evaluate,
    files,
    matrix,
    network,
    port,
    proof,
    translate,
    words,
)
from bn_from_scratch.port.content import OURS, Content, Norm

SUFFIXES = {
    "torch": (".pt", ".pth", ".safetensors"),
    "tensorflow": (".keras", ".weights.h5"),
    "jax": (".msgpack", ".safetensors"),
    "mxnet": (".params", ".safetensors"),
}
PAIRS = list(itertools.permutations(backends.NAMES, 2))
rng = np.random.default_rng(0)


@functools.cache
def lenet_weights():
    """Weights at which every layer matters: a transposed one would show."""
    weights = {}
    for name, w in lenet.initial_weights().items():
        weights[name] = rng.normal(0, 8 / np.sqrt(max(1, w[0].size)), w.shape)
    for path, C in network.NORMS.items():
        for name in OURS:
            spread = (0.5, 2) if name in ("gamma", "moving_var") else (-1, 1)
            weights[f"{path}.{name}"] = rng.uniform(*spread, C)
    return weights


def lenet_trainer(framework, norm="builtin", dtype="float32"):
    bn = load_or_skip(framework)
    trainer = bn.Trainer(progress=False, compile=False, device="cpu")
    trainer.prepare(bn.LeNet(norm_layer(bn, norm), dtype=dtype))
    trainer.set_weights({k: w.astype(dtype) for k, w in lenet_weights().items()})
    return trainer


def saved_lenet(folder, framework, norm="builtin", dtype="float32", suffix=None):
    """A file that the framework itself writes, and what its LeNet answers."""
    trainer = lenet_trainer(framework, norm, dtype)
    path = folder / f"lenet_{framework}{suffix or matrix.SAVED[framework]}"
    if suffix == ".weights.h5":
        trainer.model.save_weights(path)
    elif suffix == ".safetensors":
        from safetensors.torch import save_file

        save_file(trainer.model.state_dict(), path)
    else:
        files.save_model(path, trainer)
    return path, trainer.predict(small_garments())


def loaded_by(framework, path, norm):
    """A LeNet into which the framework itself loads the file."""
    trainer = lenet_trainer(framework, norm)
    trainer.set_weights({k: 0 * w for k, w in trainer.get_weights().items()})
    if framework == "torch":
        import torch

        trainer.model.load_state_dict(torch.load(path, weights_only=True))
    elif framework == "tensorflow":
        trainer.model.load_weights(path)
    elif framework == "jax":
        from flax import serialization

        variables = trainer.variables
        trainer.variables = serialization.from_bytes(variables, path.read_bytes())
    else:
        trainer.model.load_parameters(str(path))
    return trainer


def norms(*sizes, absent=(), eps=1e-3, momentum=0.07, scratch=False, dtype="float32"):
    """Batch norms of random state: {"norm0": Norm, "block.norm1": ...}."""
    found = {}
    for i, C in enumerate(sizes):
        state = {name: rng.normal(0, 1, C).astype(dtype) for name in OURS}
        state["moving_var"] = rng.uniform(0.5, 2, C).astype(dtype)
        state = {name: v for name, v in state.items() if name not in absent}
        path = f"block.norm{i}" if i else "norm0"
        found[path] = Norm(state, {}, scratch, eps, momentum)
    return found


def same(before, after):
    """Bit for bit the same arrays under the same names."""
    assert before.norms.keys() == after.norms.keys()
    for path, norm in before.norms.items():
        assert norm.state.keys() == after.norms[path].state.keys()
        for name, v in norm.state.items():
            np.testing.assert_array_equal(v, after.norms[path].state[name])
            assert v.dtype == after.norms[path].state[name].dtype
    assert before.others.keys() == after.others.keys()
    for name, v in before.others.items():
        np.testing.assert_array_equal(v, after.others[name])


# --- LeNets --------------------------------------------------------------------------


@pytest.mark.parametrize("source", backends.NAMES)
def test_a_lenet_predicts_the_same_everywhere(source, norm, tmp_path):
    """And the framework itself loads the file, into the LeNet of this project."""
    path, expected = saved_lenet(tmp_path, source, norm)
    assert np.ptp(expected, axis=0).min() > 0.01  # or a wrong layer would not show
    for target in backends.installed():
        out = tmp_path / f"carried{files.CUSTOMARY[target]}"
        report = port(path, target, out)
        found = network.logits(out, small_garments())
        np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())
        classes = evaluate(out, small_garments())
        np.testing.assert_array_equal(classes, expected.argmax(1))
        theirs = loaded_by(target, out, norm).predict(small_garments())
        np.testing.assert_array_equal(theirs, found)
        assert list(dict.fromkeys(row["layer"] for row in report.rows)) == lenet.LAYERS
        assert len(report.rows) == 13
        out.unlink()


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_a_lenet_comes_back_bit_for_bit(source, target, tmp_path):
    load_or_skip(target)
    path, _ = saved_lenet(tmp_path, source)
    there, back = (
        tmp_path / f"{name}{SUFFIXES[framework][-1]}"
        for name, framework in (("there", target), ("back", source))
    )
    port(path, target, there)
    port(there, source, back, from_=None if there.suffix == ".h5" else target)
    given = None if back.suffix == ".h5" else source
    before, after = files.read(path), files.read(back, given)
    same(before, after)


def test_a_lenet_in_float64(tmp_path):
    path, expected = saved_lenet(tmp_path, "torch", dtype="float64")
    for target in backends.installed():
        out = tmp_path / f"carried{files.CUSTOMARY[target]}"
        report = port(path, target, out)
        found = network.logits(out, small_garments())
        np.testing.assert_allclose(found, expected, rtol=1e-9)
        assert report.rows[-1]["dtype"] == "float64"
        assert report.rows[-1]["prediction"] < 1e-13


def test_weights_of_bn_train_are_carried(tmp_path):
    """In the project's own names, which belong to no framework."""
    trainer = lenet_trainer("torch", "scratch")
    path = tmp_path / "weights.safetensors"
    training.save_weights(path, trainer.get_weights())
    report = port(path, "torch", tmp_path / "carried.pt")
    assert (
        "the project's own names: no framework here runs it; the spec stood in for it"
        in report.notes
    )
    classes = evaluate(report.written, small_garments())
    expected = trainer.predict(small_garments()).argmax(1)
    np.testing.assert_array_equal(classes, expected)
    np.testing.assert_array_equal(evaluate(path, small_garments()), expected)


def test_an_exported_gluon_lenet(tmp_path):
    """`net.export` counts its layers: conv0_weight, batchnorm0_gamma, ..."""
    load_or_skip("mxnet")
    trainer = lenet_trainer("mxnet")
    trainer.model.hybridize()
    expected = trainer.predict(small_garments())
    trainer.model.export(str(tmp_path / "net"))
    path = tmp_path / "net-0000.params"
    names = files.read(path).norms
    assert all(name.startswith("batchnorm") for name in names)
    report = port(path, "torch", tmp_path / "net.pt")
    assert report.kind == "LeNet"
    classes = evaluate(report.written, small_garments())
    np.testing.assert_array_equal(classes, expected.argmax(1))


def test_the_matrix(tmp_path):
    names = backends.installed()[:2]
    options = {"max_epochs": 1, "batch_size": 64}
    results = matrix.compare_ports(tmp_path, small_garments(), names, **options)
    assert matrix.agree(results)
    assert len(results["cells"]) == len(names) ** 2
    trained = [(tmp_path / f"{name}{matrix.SAVED[name]}") for name in names]
    logits = [network.logits(path, small_garments()) for path in trained]
    assert np.abs(logits[0] - logits[-1]).max() > 0.01  # not one network twice
    text = matrix.render(results)
    assert "every prediction is the same" in text
    results["cells"][-1]["differing"] = 1
    assert "NOT every prediction is the same" in matrix.render(results)


# --- Batch norms ---------------------------------------------------------------------


@tried(10, HealthCheck.function_scoped_fixture)
@given(
    pair=st.sampled_from(PAIRS),
    suffixes=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    sizes=st.sampled_from([(1,), (3, 7)]),
    absent=st.sampled_from([(), ("beta",), ("gamma",), ("gamma", "beta")]),
    scratch=st.booleans(),
    eps=st.sampled_from([1e-3, 1e-5, 3e-7]),
    momentum=st.integers(1, 999).map(lambda i: i / 1000),
)
@example(  # a Flax file without "params"
    pair=("torch", "jax"),
    suffixes=(0, 0),
    sizes=(1,),
    absent=("gamma", "beta"),
    scratch=False,
    eps=1e-3,
    momentum=0.001,
)
def test_there_and_back_is_the_identity(
    tmp_path, pair, suffixes, sizes, absent, scratch, eps, momentum
):
    """Of state and settings, whatever they are, through every format."""
    for framework in pair:
        load_or_skip(framework)
    endings = [
        SUFFIXES[framework][i % len(SUFFIXES[framework])]
        for framework, i in zip(pair, suffixes, strict=True)
    ]
    start, there, back = (
        tmp_path / f"{name}{ending}"
        for name, ending in zip(
            ("start", "there", "back"), (*endings, endings[0]), strict=True
        )
    )
    options = {"eps": eps, "momentum": momentum}
    given = norms(*sizes, absent=absent, scratch=scratch, **options)
    if pair[0] == "torch" and len(absent) == 1 and not scratch:
        given = norms(*sizes, scratch=scratch, **options)  # it has both or none
    if pair[0] == "mxnet" and not scratch:
        given = norms(*sizes, **options)  # it has both
    content = Content(pair[0], given)
    files.write(start, content)
    names = ("torch", "jax", "mxnet")
    first, second = (
        framework if framework in names and ending == ".safetensors" else None
        for framework, ending in zip(pair, endings, strict=True)
    )
    port(start, pair[1], there, from_=first, overwrite=True, **options)
    port(there, pair[0], back, from_=second, overwrite=True, **options)
    before, after = files.read(start, first), files.read(back, first)
    if pair[1] != "mxnet" or scratch or endings[1] == ".safetensors" or not absent:
        same(before, after)
    for norm in after.norms.values():
        assert norm.eps in (eps, None)
        assert norm.momentum in (momentum, None)


def test_values_translate_the_variance(tmp_path):
    """PyTorch stores n/(n-1) times what the others store; both directions."""
    load_or_skip("torch"), load_or_skip("jax")
    given = norms(3, 5)
    files.write(tmp_path / "a.pt", Content("torch", given))
    counts = {"norm0": 4, "block.norm1": 16}
    port(tmp_path / "a.pt", "jax", tmp_path / "b.msgpack", values=counts)
    biased = files.read(tmp_path / "b.msgpack").norms
    for path, n in counts.items():
        expected = given[path].state["moving_var"] * (n - 1) / n
        found = biased[path].state["moving_var"]
        np.testing.assert_allclose(found, expected, rtol=1e-7)
    options = {"eps": 1e-3, "momentum": 0.07}
    port(tmp_path / "b.msgpack", "torch", tmp_path / "c.pt", values=4, **options)
    found = files.read(tmp_path / "c.pt").norms["norm0"].state["moving_var"]
    np.testing.assert_allclose(found, given["norm0"].state["moving_var"], rtol=1e-7)


def test_values_of_a_lenet(tmp_path):
    """The proof holds the target to the source with the translated variance."""
    load_or_skip("jax")
    path, _ = saved_lenet(tmp_path, "torch")
    report = port(path, "jax", tmp_path / "a.msgpack", values=8)
    assert 0 < report.largest < 1e-5
    found = files.read(tmp_path / "a.msgpack").norms["bn4"].state["moving_var"]
    expected = files.read(path).norms["bn4"].state["moving_var"] * 7 / 8
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_values_between_those_that_store_alike_change_nothing(tmp_path):
    load_or_skip("jax"), load_or_skip("mxnet")
    given = Content("jax", norms(3))
    files.write(tmp_path / "a.msgpack", given)
    port(tmp_path / "a.msgpack", "mxnet", values=4)
    same(given, files.read(tmp_path / "a.params"))


@pytest.mark.parametrize("pair", [("torch", "torch"), ("jax", "mxnet")])
def test_a_variance_that_need_not_be_translated_stays_to_the_last_bit(pair):
    content = Content(pair[0], norms(50, dtype="float64"))
    found = translate.translated_variances(content, pair[1], 7)["norm0"]
    np.testing.assert_array_equal(found, content.norms["norm0"].state["moving_var"])


@pytest.mark.parametrize("framework", backends.NAMES)
def test_ours_store_the_biased_variance_everywhere(framework):
    """So that there is nothing to translate between them, in PyTorch either."""
    for before, after in ((framework, "jax"), ("jax", framework)):
        content = Content(before, norms(3, scratch=True))
        found = translate.translated_variances(content, after, 4)["norm0"]
        expected = content.norms["norm0"].state["moving_var"]
        np.testing.assert_array_equal(found, expected)


def test_torch_may_have_neither_parameter(tmp_path):
    """affine=False: then nothing is filled in; with one of them, the other is."""
    neither = Content("jax", norms(3, absent=("gamma", "beta")))
    (found,) = translate.translate(neither, "torch").norms.values()
    assert found.filled == ()
    (found,) = translate.translate(neither, "mxnet").norms.values()
    assert found.filled == ("gamma", "beta")
    one = Content("jax", norms(3, absent=("beta",)))
    (found,) = translate.translate(one, "torch").norms.values()
    assert found.filled == ("beta",)


def test_what_was_filled_and_trained_since_stays(tmp_path):
    load_or_skip("torch"), load_or_skip("tensorflow")
    import torch

    files.write(tmp_path / "a.keras", Content("tensorflow", norms(3, absent=("beta",))))
    port(tmp_path / "a.keras", "torch")
    state = torch.load(tmp_path / "a.pt", weights_only=True)
    assert torch.equal(state["norm0.bias"], torch.zeros(3))
    state["norm0.bias"] += 1
    torch.save(state, tmp_path / "a.pt")
    found = files.read(tmp_path / "a.pt").norms["norm0"]
    np.testing.assert_array_equal(found.state["beta"], np.ones(3))


def test_mixed_dtypes_meet_in_the_wider(tmp_path):
    """Flax keeps float32 statistics beside float64 parameters."""
    load_or_skip("jax"), load_or_skip("tensorflow")
    norm = norms(3)["norm0"]
    norm.state["gamma"] = rng.normal(size=3)
    files.write(tmp_path / "a.msgpack", Content("jax", {"norm0": norm}))
    port(tmp_path / "a.msgpack", "tensorflow")
    found = files.read(tmp_path / "a.weights.h5").norms["norm0"].state
    for name, v in norm.state.items():
        np.testing.assert_array_equal(found[name], v)


# --- Settings and the report ---------------------------------------------------------


def test_eps_and_momentum_are_those_of_the_layers_default(tmp_path):
    load_or_skip("torch"), load_or_skip("mxnet")
    content = Content("mxnet", norms(3))
    files.write(tmp_path / "a.params", content)
    report = port(tmp_path / "a.params", "torch")
    assert report.notes[:2] == [
        "the file does not say eps: 1e-05 was assumed, as Gluon has it",
        "the file does not say momentum: 0.1 was assumed, as Gluon has it",
    ]
    found = files.read(tmp_path / "a.pt").norms["norm0"]
    assert (found.eps, found.momentum) == (1e-5, 0.1)


def test_momentum_changes_its_sense(tmp_path):
    load_or_skip("torch"), load_or_skip("tensorflow")
    files.write(tmp_path / "a.pt", Content("torch", norms(3, momentum=0.1)))
    report = port(tmp_path / "a.pt", "tensorflow", tmp_path / "a.keras")
    import keras

    layer = keras.models.load_model(tmp_path / "a.keras").get_layer("norm0")
    assert (layer.momentum, layer.epsilon) == (0.9, 1e-3)
    assert report.written == str(tmp_path / "a.keras")


def test_options_that_contradict_the_file(tmp_path):
    load_or_skip("torch")
    files.write(tmp_path / "a.pt", Content("torch", norms(3)))
    message = "the file says eps=0.001 of norm0; got 1e-05"
    with pytest.raises(ValueError, match=f"^{message}$"):
        port(tmp_path / "a.pt", "torch", tmp_path / "b.pt", eps=1e-5)
    message = "the file says momentum=0.07 of norm0; got 0.1"
    with pytest.raises(ValueError, match=f"^{message}$"):
        port(tmp_path / "a.pt", "torch", tmp_path / "b.pt", momentum=0.1)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (1, "values must be at least 2; got 1"),
        ({"bn9": 8}, "there is no batch norm bn9; there are norm0, block.norm1"),
    ],
)
def test_values_that_cannot_be(values, message, tmp_path):
    load_or_skip("torch")
    files.write(tmp_path / "a.pt", Content("torch", norms(3, 5)))
    with pytest.raises(ValueError, match=f"^{message}$"):
        port(tmp_path / "a.pt", "torch", tmp_path / "b.pt", values=values)


def test_the_report(tmp_path):
    load_or_skip("torch"), load_or_skip("mxnet")
    given = norms(3, 5, absent=("gamma", "beta"))
    others = {"conv.weight": np.zeros((3, 1, 5, 5), np.float32)}
    files.write(tmp_path / "a.pt", Content("torch", given, others))
    report = port(tmp_path / "a.pt", "mxnet")
    lines = str(report).splitlines()
    a, b = tmp_path / "a.pt", tmp_path / "a.params"
    assert lines[0] == f"{a} (PyTorch, batch norms: 2) -> {b} (Gluon)"
    assert lines[4].split() == ["layer", "channels", "dtype", *proof.COLUMNS]
    assert lines[6].split()[:3] == ["norm0", "3", "float32"]
    assert lines[-6:-1] == [
        "make norm0, block.norm1 with BatchNorm(epsilon=0.001, momentum=0.93)",
        "norm0, block.norm1: no gamma in the source; Gluon must have one, so it is 1: "
        "do not train it",
        "norm0, block.norm1: no beta in the source; Gluon must have one, so it is 0: "
        "do not train it",
        "the stored variance is carried as it is, so that predictions stay; PyTorch's "
        "is n/(n-1) times that of the others (--values n translates it)",
        "not carried: conv.weight",
    ]
    assert lines[-1] == f"Both sides agree: worst {report.largest:.1e}."
    facts = json.loads(json.dumps(report.as_dict()))
    assert facts["left"] == ["conv.weight"]
    assert (facts["from"], facts["to"]) == ("torch", "mxnet")


# --- The proof -----------------------------------------------------------------------


def swapped(norm):
    state = dict(norm.state)
    state["moving_mean"], state["moving_var"] = (
        state["moving_var"],
        state["moving_mean"],
    )
    return state


BUGS = {  # what a translation may do wrong: (a norm before it is written) -> state
    "gamma lost": lambda norm: (
        norm.state | {"gamma": np.ones_like(norm.state["gamma"])}
    ),
    "mean and variance swapped": swapped,
    "one bit of the variance": lambda norm: (
        norm.state
        | {"moving_var": np.nextafter(norm.state["moving_var"], np.float32(9))}
    ),
    "a channel moved": lambda norm: (
        norm.state | {"beta": np.roll(norm.state["beta"], 1)}
    ),
}


@pytest.mark.parametrize("bug", BUGS)
def test_a_difference_is_refused_and_nothing_written(bug, monkeypatch, tmp_path):
    load_or_skip("torch"), load_or_skip("mxnet")
    right = translate.translate

    def wrong(*args):
        content = right(*args)
        changed = {k: replace(n, state=BUGS[bug](n)) for k, n in content.norms.items()}
        return replace(content, norms=changed)

    monkeypatch.setattr(translate, "translate", wrong)
    files.write(tmp_path / "a.pt", Content("torch", norms(3)))
    (tmp_path / "a.params").write_text("precious")
    message = r"norm0 would differ in float\d\d .* so nothing was written"
    with pytest.raises(ValueError, match=message):
        port(tmp_path / "a.pt", "mxnet", overwrite=True)
    assert (tmp_path / "a.params").read_text() == "precious"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.params", "a.pt"]


@pytest.mark.parametrize(
    ("change", "column"),
    [({"eps": 1e-3 + 1e-8}, "prediction"), ({"momentum": 0.93}, "statistics")],
)
def test_another_eps_or_momentum_is_refused(change, column):
    """Seen by the layers that the proof makes from what the files say."""
    load_or_skip("torch")
    (norm,) = norms(3).values()
    theirs = words.names("torch", scratch=False)
    norm = replace(norm, own={theirs[name]: v for name, v in norm.state.items()})
    sides = norm, replace(norm, **change)
    source, target = (Content("torch", {"norm0": side}) for side in sides)
    variances = {"norm0": norm.state["moving_var"]}
    rows = proof.prove_layers(source, target, variances)
    with pytest.raises(ValueError, match=rf"\({column}\)"):
        proof.check(rows, ("torch", "torch"))


ALLOWED = [
    ("float32", "prediction", ("torch", "jax"), 1e-5),
    ("float32", "gradients", ("torch", "mxnet"), 1e-5),
    ("float64", "prediction", ("torch", "mxnet"), 1e-11),
    ("float64", "training", ("torch", "jax"), 1e-11),
    ("float64", "statistics", ("torch", "jax"), 1e-11),
    ("float64", "statistics", ("mxnet", "jax"), 1e-6),
    ("float64", "statistics", ("torch", "mxnet"), 1e-6),
    ("float32", "statistics", ("torch", "mxnet"), 1e-5),
]


@pytest.mark.parametrize(("dtype", "column", "frameworks", "most"), ALLOWED)
def test_what_is_above_tolerance(dtype, column, frameworks, most):
    row = {"layer": "bn", "dtype": dtype} | dict.fromkeys(proof.COLUMNS, 0.0)
    proof.check([row | {column: 0.9 * most}], frameworks)
    for apart in (1.5 * most, np.inf, np.nan):
        message = (
            f"bn would differ in {dtype} ({column}) by {apart:.1e} of the largest "
            f"value; more than {most:.0e}, so nothing was written"
        )
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            proof.check([row, row | {column: apart}], frameworks)


@pytest.mark.parametrize("quantity", ["dX", "dgamma", "moving_mean"])
def test_one_quantity_that_differs_is_enough(quantity, monkeypatch):
    """Whatever those after it in its column say."""
    right = {
        name: rng.normal(size=(2, 3) if name in ("Y", "dX") else 3)
        for name in ("Y", "dX", "dgamma", "dbeta", "moving_mean", "moving_var")
    }
    answers = iter([right, right | {quantity: 2 * right[quantity]}] * 4)
    monkeypatch.setattr(proof, "_answer", lambda *_: next(answers))
    given = Content("torch", norms(3))
    variances = {"norm0": given.norms["norm0"].state["moving_var"]}
    rows = proof.prove_layers(given, given, variances)
    column = "statistics" if quantity == "moving_mean" else "gradients"
    assert [row[column] > 0.1 for row in rows] == [True, True]
    assert [row["prediction"] for row in rows] == [0, 0]


def test_the_largest_of_all_columns_is_reported():
    rows = [{"prediction": 1e-9}, {"prediction": 1e-8, "statistics": 3e-7}]
    report = Report("a", ("torch", "jax"), "1 batch norm", rows, "b")
    assert report.largest == 3e-7


def test_a_cell_of_the_matrix():
    expected = np.array([[0.0, 1.0], [1.0, 0.0], [0.0, 2.0]])
    found = expected + np.array([[0, 0], [0, 1.5], [0, 0]])
    cell = matrix._cell("torch", "jax", found, expected, np.array([1, 0, 1]))
    assert (cell["differing"], cell["logits"]) == (1, 1.5)
    assert cell["accuracy"] == pytest.approx(2 / 3)


def test_a_wrong_layer_is_named(tmp_path):
    """The layers before it agree; those after it read what it answers."""
    load_or_skip("torch")
    content = network.settle(files.read(saved_lenet(tmp_path, "torch")[0]))
    content, _ = translate.complete(content)
    turned = content.others["conv2.weight"].swapaxes(-1, -2)
    wrong = replace(content, others=content.others | {"conv2.weight": turned})
    variances = {path: norm.state["moving_var"] for path, norm in content.norms.items()}
    rows = proof.prove_network(content, wrong, variances)
    assert [row["prediction"] == 0 for row in rows] == [True] + 4 * [False]
    with pytest.raises(ValueError, match=r"^conv2 would differ in float32 \(pred"):
        proof.check(rows, ("torch", "torch"))


def test_a_single_channel_near_zero_agrees(tmp_path):
    """Its moving mean comes out as 1e-9: no value to relate a difference to."""
    load_or_skip("torch"), load_or_skip("mxnet")
    (norm,) = norms(1, momentum=0.1).values()
    X = make_case((proof.BATCH, 1, *proof.FIELD), dtype="float32")[0]
    norm.state["moving_mean"][:] = -X.mean() / 9
    files.write(tmp_path / "a.pt", Content("torch", {"norm0": norm}))
    assert port(tmp_path / "a.pt", "mxnet").largest < 1e-6


def test_the_spec_stands_in_for_an_absent_framework(monkeypatch, tmp_path):
    load_or_skip("torch"), load_or_skip("mxnet")
    path, _ = saved_lenet(tmp_path, "torch", suffix=".safetensors")
    present = [name for name in backends.installed() if name != "torch"]
    monkeypatch.setattr(backends, "installed", lambda: present)
    report = port(path, "mxnet")
    assert (
        "PyTorch: no framework here runs it; the spec stood in for it" in report.notes
    )
    assert [row["layer"] for row in report.rows][::2] == list(network.NORMS)


def test_our_words_are_those_of_the_backends():
    for framework in backends.installed():
        load_or_skip(framework)
        module = __import__(
            f"bn_from_scratch.backends.{framework}.builtin", fromlist=["NAMES"]
        )
        assert words.names(framework, scratch=False) == module.NAMES


def test_the_defaults_are_those_of_the_layers():
    assert set(words.DEFAULTS) == {*backends.NAMES, "exchange"}
    if "torch" in backends.installed():
        from torch import nn

        layer = nn.BatchNorm2d(1)
        assert words.DEFAULTS["torch"] == (layer.eps, layer.momentum)
    if "tensorflow" in backends.installed():
        import keras

        layer = keras.layers.BatchNormalization()
        momentum = words.complement(layer.momentum)
        assert words.DEFAULTS["tensorflow"] == (layer.epsilon, momentum)
    if "jax" in backends.installed():
        from flax import linen

        layer = linen.BatchNorm()
        momentum = words.complement(layer.momentum)
        assert words.DEFAULTS["jax"] == (layer.epsilon, momentum)
    if "mxnet" in backends.installed():
        from mxnet.gluon import nn

        kwargs = nn.BatchNorm()._kwargs
        momentum = words.complement(kwargs["momentum"])
        assert words.DEFAULTS["mxnet"] == (kwargs["eps"], momentum)


def test_importing_it_imports_no_framework():
    code = (
        "import sys; import bn_from_scratch.port, bn_from_scratch.port.matrix; "
        "names = {'torch', 'tensorflow', 'keras', 'jax', 'flax', 'mxnet', 'h5py'}; "
        "sys.exit(str(names & sys.modules.keys()) if names & sys.modules.keys() else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_only_a_lenet_can_be_evaluated(tmp_path):
    load_or_skip("torch")
    files.write(tmp_path / "a.pt", Content("torch", norms(3)))
    message = f"^{tmp_path}/a.pt holds no LeNet of this project$"
    with pytest.raises(ValueError, match=message):
        evaluate(tmp_path / "a.pt", small_garments())
