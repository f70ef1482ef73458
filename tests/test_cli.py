"""The command line: what it prints, writes and exits with."""

import json
import subprocess
import sys

import numpy as np
import pytest
from conftest import small_garments

from bn_from_scratch import backends, cli, data, training
from bn_from_scratch.compare import layer, precision
from bn_from_scratch.compare import training as comparison
from bn_from_scratch.port import matrix

ONE = backends.installed()[:1]
SMALL = [
    "--data",
    "garments",
    "--samples",
    "256",
    "--batch-size",
    "64",
    "--epochs",
    "1",
]


@pytest.fixture(autouse=True)
def at_least_one_framework():
    if not ONE:
        pytest.skip("no framework is installed")


@pytest.fixture
def small_data(monkeypatch):
    """640 garments: to draw them all takes seconds."""
    small = small_garments()
    monkeypatch.setattr(data, "load", lambda source, folder: small)


def run(*arguments):
    return cli.main([str(a) for a in arguments])


@pytest.mark.parametrize("arguments", [[], ["compare"], ["train", "--epochs", "x"]])
def test_wrong_usage_exits_with_2(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        run(*arguments)
    assert caught.value.code == 2
    assert "usage: bn" in capsys.readouterr().err


def test_an_unknown_backend_is_named(capsys):
    with pytest.raises(SystemExit):
        run("compare", "layer", "--backends", "torch,caffe")
    message = "'caffe' is not one of torch, tensorflow, jax, mxnet"
    assert message in capsys.readouterr().err


def test_compare_layer(capsys):
    assert run("compare", "layer", "--backends", *ONE) == 0
    out = capsys.readouterr().out
    assert "All rows agree with the spec: worst " in out
    assert "The built-in layer of " in out
    assert run("compare", "layer", "--backends", *ONE, "--json") == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert len(rows) == 8
    assert all(row[q] <= layer.TOLERANCE for row in rows for q in layer.QUANTITIES)


def test_compare_layer_exits_with_1_when_a_layer_is_wrong(monkeypatch, capsys):
    bn = backends.load(ONE[0])
    right = bn.probe

    def wrong(*args, **kwargs):
        result = right(*args, **kwargs)
        return result | {"moving_var": result["moving_var"] * (1 + 1e-9)}

    monkeypatch.setattr(bn, "probe", wrong)
    assert run("compare", "layer", "--backends", *ONE) == 1
    assert (
        "All rows DO NOT agree with the spec: worst 1.0e-09" in capsys.readouterr().out
    )


def test_compare_precision(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(precision, "SHAPES", ((16, 3, 8, 8),))
    assert run("compare", "precision", "--backends", *ONE, "--out", tmp_path) == 0
    assert "Scratch keeps its bound." in capsys.readouterr().out
    rows = json.loads((tmp_path / "precision.json").read_text())["rows"]
    assert {row["mean"] for row in rows} == set(precision.MEANS)
    assert (tmp_path / "precision.png").stat().st_size > 10_000


def test_compare_precision_exits_with_1_when_a_bound_is_not_kept(
    monkeypatch, tmp_path, capsys
):
    monkeypatch.setattr(precision, "SHAPES", ((16, 3, 8, 8),))
    monkeypatch.setattr(precision, "bound", lambda mean, std=1.0: 1e-30)
    assert run("compare", "precision", "--backends", *ONE, "--out", tmp_path) == 1
    assert "Scratch DOES NOT keep its bound." in capsys.readouterr().out


@pytest.mark.parametrize(("differing", "status"), [(0, 0), (1, 1)])
def test_compare_ports_exits_with_1_when_a_prediction_differs(
    monkeypatch, tmp_path, capsys, differing, status
):
    def compare_ports(folder, data, names, norm, **settings):
        assert (folder, names, norm) == (str(tmp_path), tuple(ONE), "scratch")
        assert (data.name.split()[0], len(data.train_labels)) == ("garments", 256)
        assert settings["max_epochs"] == 1 and settings["batch_size"] == 64
        cell = {"source": ONE[0], "target": ONE[0], "accuracy": 0.5}
        cells = [cell | {"differing": differing, "logits": 0.0}]
        return {"data": data.name, "norm": norm, "images": 7, "cells": cells}

    monkeypatch.setattr(matrix, "compare_ports", compare_ports)
    options = ["--backends", *ONE, "--norm", "scratch", "--out", tmp_path]
    assert run("compare", "ports", *SMALL, *options) == status
    verdict = "NOT every prediction" if differing else "every prediction"
    assert f"Carried over, {verdict} is the same" in capsys.readouterr().out
    assert run("compare", "ports", *SMALL, *options, "--json") == status
    assert json.loads(capsys.readouterr().out)["images"] == 7


def test_to_what_tolerance_results_agree_to():
    """Just below and just above; NaN never; of the built-in layers no bound is kept."""
    row = dict.fromkeys(layer.QUANTITIES, 0.0)
    for value, agree in ((0.9e-12, True), (1.1e-12, False), (np.nan, False)):
        assert layer.agree([row, row | {layer.QUANTITIES[-1]: value}]) == agree
    for dtype, most in (("float32", 1e-3), ("float64", 1e-10)):
        for apart, agree in ((0.9 * most, True), (1.1 * most, False)):
            losses = {"scratch": 0.0, "builtin": apart}
            runs = [{"backend": "a", "norm": k, "loss": [v]} for k, v in losses.items()]
            found = comparison.agreement(runs, [np.zeros(1)] * 2, dtype)
            assert (found["agree"], found["tolerance"]) == (agree, most)
    for mean, most in ((0, 1e-5), (1e4, 1e-5 + 1.2e-3), (-1e4, 1e-5 + 1.2e-3)):
        assert precision.bound(mean) == pytest.approx(most, rel=1e-9)
    row = {"norm": "scratch", "error": 1.0, "bound": 1.0}
    for change, agree in (
        ({}, True),
        ({"error": 1.1}, False),
        ({"error": np.nan}, False),
        ({"error": 9.0, "norm": "builtin"}, True),
    ):
        assert precision.agree([row, row | change]) == agree


def test_a_difference_of_a_layer_is_related_to_the_largest_value(monkeypatch):
    bn = backends.load(ONE[0])
    right = bn.probe

    def wrong(*args, **kwargs):
        result = right(*args, **kwargs)
        dbeta = result["dbeta"] + 0.01 * np.abs(result["dbeta"]).max()
        return result | {"dbeta": dbeta}

    monkeypatch.setattr(bn, "probe", wrong)
    rows = layer.compare_layer(ONE, ["scratch"])
    assert [row["dbeta"] for row in rows] == pytest.approx([0.01] * 4, rel=1e-9)


def test_compare_training(tmp_path, capsys):
    names = ",".join(backends.installed()[:2])
    assert (
        run("compare", "training", "--backends", names, *SMALL, "--out", tmp_path) == 0
    )
    out = capsys.readouterr().out
    assert out.startswith("garments (drawn by code, not Fashion-MNIST): 256 images, ")
    assert "One curve: at every step the losses of " in out
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["data"].startswith("garments")
    assert results["dtype"] == "float32"
    assert results["agreement"]["agree"] is True
    for entry in results["runs"]:
        assert len(entry["loss"]) == 4
        assert {"backend", "norm", "val_loss", "val_accuracy"} <= set(entry)
        assert {"seconds", "images_per_second", "dtype", "data"} <= set(entry)
        assert len(entry["gamma"]) == len(entry["beta"]) == 6
        assert bool(entry["setting"]) == (entry["norm"] == "builtin")
    assert (tmp_path / "curves.png").exists()
    assert "garments" in (tmp_path / "report.html").read_text()


def test_compare_training_exits_with_1_when_a_curve_leaves(
    monkeypatch, tmp_path, capsys
):
    monkeypatch.setitem(comparison.TOLERANCE, "float32", 1e-30)
    bn = backends.load(ONE[0])
    builtin = bn.builtin
    monkeypatch.setattr(bn, "builtin", lambda *a, **k: builtin(*a, eps=0.1, **k))
    out = ["--out", str(tmp_path)]
    assert run("compare", "training", "--backends", *ONE, *SMALL, *out) == 1
    assert "The curves DO NOT agree: " in capsys.readouterr().out


def test_agreement_compares_every_pair():
    losses = {"torch/scratch": [1.0, 2.0], "jax/scratch": [1.0, 2.5]}
    losses |= {"jax/builtin": [4.0, 2.5]}
    runs = [
        dict(zip(("backend", "norm"), key.split("/"), strict=True)) for key in losses
    ]
    for entry, values in zip(runs, losses.values(), strict=True):
        entry["loss"] = values
    labels = [np.array([1, 2]), np.array([1, 2]), np.array([1, 3])]
    agreed = comparison.agreement(runs, labels, "float32")
    assert agreed["loss_difference"] == {
        "torch/scratch": 3.0,
        "jax/scratch": 3.0,
        "jax/builtin": 3.0,
    }
    assert agreed["largest_loss_difference"] == 3.0
    assert agreed["scratch_loss_difference"] == 0.5
    assert agreed["predictions_unlike_the_first_run"]["jax/builtin"] == 1
    alone = comparison.agreement(runs[2:], labels[2:], "float32")
    assert (alone["agree"], alone["scratch_loss_difference"]) == (True, 0.0)


def test_nan_losses_never_agree_and_are_null_in_json():
    runs = [
        {"backend": "torch", "norm": norm, "loss": [1.0, loss]}
        for norm, loss in (("scratch", float("nan")), ("builtin", 1.0))
    ]
    agreed = comparison.agreement(runs, [np.zeros(3), np.zeros(3)], "float32")
    assert not agreed["agree"]
    assert json.loads(comparison.to_json(runs))[0]["loss"] == [1.0, None]


def test_train_writes_weights_that_train_can_start_from(tmp_path, capsys):
    first = tmp_path / "first"
    assert run("train", "--backend", *ONE, *SMALL, "--out", first) == 0
    assert "validation accuracy" in capsys.readouterr().out
    saved = training.load_weights(first / "weights.safetensors")
    assert saved["bn1.moving_var"].shape == (6,)
    again = ["--weights", first / "weights.safetensors", "--seed", 9, "--json"]
    assert run("train", "--backend", *ONE, *SMALL, *again) == 0
    second = json.loads(capsys.readouterr().out)["runs"][0]
    losses = json.loads((first / "results.json").read_text())["runs"][0]["loss"]
    assert second["loss"][0] < losses[0]


def test_train_in_micro_batches(tmp_path):
    options = ["--accumulate", 2, "--out", tmp_path]
    assert run("train", "--backend", *ONE, *SMALL, *options) == 0
    assert json.loads((tmp_path / "results.json").read_text())["accumulate"] == 2
    assert " in 2 micro-batches" in (tmp_path / "report.html").read_text()
    steps = training.load_weights(tmp_path / "weights.safetensors")
    assert "bn1.accumulated_mean" in steps  # the layers that wait for all parts


def test_train_in_phases(tmp_path, capsys):
    options = ["--reestimate", "--out", tmp_path]
    assert run("train", "--backend", *ONE, *SMALL, *options) == 0
    assert "statistics re-estimated" in capsys.readouterr().out
    found = json.loads((tmp_path / "phases.json").read_text())["phases"]
    assert [p["phase"] for p in found][1:] == ["statistics re-estimated"]
    anew = training.load_weights(tmp_path / "weights.safetensors")
    before = tmp_path / "before"
    assert run("train", "--backend", *ONE, *SMALL, "--out", before) == 0
    before = training.load_weights(before / "weights.safetensors")
    changed = {name for name, v in before.items() if not np.array_equal(v, anew[name])}
    moving = {name for name in before if "moving" in name}
    assert changed == moving  # those of the last phase, not of the training


def test_a_network_without_normalization_has_a_report_too(tmp_path):
    options = ["--norm", "none", "--out", tmp_path]
    assert run("train", "--backend", *ONE, *SMALL, *options) == 0
    assert "no normalization" in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--samples", "999999"],
            "--samples: train must be between 1 and 640; got 999999",
        ),
        (
            ["--weights", "absent.safetensors"],
            "[Errno 2] No such file or directory: 'absent.safetensors'",
        ),
        (
            ["--batch-size", "1"],
            "a batch norm needs at least 2 images at a time; got --batch-size 1",
        ),
        (
            ["--batch-size", "8", "--accumulate", "5"],
            "a batch norm needs at least 2 images at a time; got --batch-size 8, "
            "--accumulate 5",
        ),
        (
            ["--accumulate", "65"],
            "--accumulate must be at most the 64 images of a batch; got 65",
        ),
        (
            ["--epochs", "3", "--quantize-after", "3"],
            "--quantize-after must be below --epochs 3; got 3",
        ),
    ],
)
def test_errors_of_train(arguments, message, small_data, capsys):
    assert run("train", "--backend", *ONE, *SMALL, *arguments) == 2
    assert capsys.readouterr() == ("", f"bn: error: {message}\n")


def refused(capsys, *arguments):
    """What is said of an option that is wrong."""
    with pytest.raises(SystemExit) as caught:
        run(*arguments)
    assert caught.value.code == 2
    out, error = capsys.readouterr()
    assert out == "" and error.count("\n") <= 5
    return error.splitlines()[1].partition(" error: ")[2]


WHOLE = {  # commands, and their options that take a whole number, with the least
    "train": {"--epochs": 1, "--samples": 1, "--batch-size": 1, "--seed": 0}
    | {"--accumulate": 1, "--quantize-after": 1},
    "compare training": {"--epochs": 1, "--samples": 1, "--batch-size": 1, "--seed": 0},
    "compare ports": {"--epochs": 1, "--samples": 1, "--batch-size": 1, "--seed": 0},
    "bench": {"--rounds": 1},
    "check a.py": {"--seconds": 1, "--memory": 1},
    "grade .": {"--seconds": 1, "--memory": 1, "--jobs": 1},
    "port a.pt --to jax": {"--values": 2},
}


@pytest.mark.parametrize("command", WHOLE)
def test_whole_numbers_are_whole_and_not_too_small(command, capsys):
    for option, least in WHOLE[command].items():
        for text in (str(least - 1), "-7", "1.5", "nan", "1e400", "many", "9" * 5000):
            if text == "9" * 5000 and "--s" not in option[:3]:
                continue  # Python reads no more than 4,300 digits
            said = refused(capsys, *command.split(), f"{option}={text}")
            assert said.startswith(f"argument {option}")
            assert f"a whole number of at least {least}" in said
            assert said.endswith(f"is wanted; got {text!r}")


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "-0.1", "1e400", "fast", ""])
def test_numbers_are_finite_and_not_negative(text, capsys):
    port = "port", "a.pt", "--to", "jax"
    for command, option, limits in (
        (port, "--eps", "above 0"),
        (port, "--momentum", "of at least 0 and at most 1"),
        (["train"], "--lr", "of at least 0"),
        (["compare", "training"], "--lr", "of at least 0"),
        (["compare", "ports"], "--lr", "of at least 0"),
    ):
        said = refused(capsys, *command, f"{option}={text}")
        what = f"a finite number {limits} is wanted; got {text!r}"
        assert said == f"argument {option}: {what}"


def test_a_folder_is_no_file_and_a_file_no_folder(tmp_path, capsys):
    path, below = tmp_path / "file", tmp_path / "file" / "below"
    path.touch()
    for command, option in (
        (["train"], "--out"),
        (["train"], "--data-dir"),
        (["data"], "--data-dir"),
        (["compare", "precision"], "--out"),
        (["compare", "training"], "--out"),
        (["compare", "ports"], "--out"),
    ):
        for given in (path, below):
            said = refused(capsys, *command, option, given)
            message = f"argument {option}: a folder is wanted; {path} is a file"
            assert said == message
    assert "argument FOLDER: a folder is wanted" in refused(capsys, "grade", path)
    for command, option in (
        (["train"], "--weights"),
        (["health", "a.pt"], "--page"),
        (["port", "a.pt", "--to", "torch"], "--out"),
    ):
        said = refused(capsys, *command, option, tmp_path)
        assert said == f"argument {option}: a file is wanted; {tmp_path} is a folder"
    for command in (["health"], ["port", "--to", "jax"], ["diagnose"]):
        said = refused(capsys, *command, tmp_path, "b")
        assert said.endswith(f"a file is wanted; {tmp_path} is a folder")


def test_an_unknown_option_shows_the_lines_that_matter(capsys):
    with pytest.raises(SystemExit):
        run("train", "--epocs", "3")
    assert capsys.readouterr().err.splitlines() == [
        "usage: bn train [OPTION ...]",
        "bn train: error: there is no option --epocs; close to it:",
        "  --epochs            passes over the training set",
        "  --help              show this help message and exit",
        "all options: bn train --help",
    ]
    assert refused(capsys, "port", "a.pt", "--to", "jax", "--x\x1b[2J") == (
        r"there is no option --x\x1b[2J"
    )
    assert refused(capsys, "variants", "now") == "there is no place for 'now'"


def commands():
    """Every command as a list of words, with its parser."""
    top = cli.parser()._subparsers._group_actions[0].choices
    kinds = top.pop("compare")._subparsers._group_actions[0].choices
    found = {name: parser for name, parser in top.items()}
    return found | {f"compare {name}": parser for name, parser in kinds.items()}


def test_help_says_every_option_and_its_default():
    for name, parser in commands().items():
        for action in parser._actions:
            assert action.help, (name, action.dest)
            text = parser._get_formatter()._expand_help(action)
            if action.option_strings and action.default not in (None, False):
                if action.dest != "help":
                    assert "default" in text, (name, action.dest)
        assert "--json" in parser.format_help(), name
        assert "JSON: " in parser.get_default("run").__doc__, name


def test_frameworks_go_by_the_names_that_people_give_them():
    names = {"pytorch": "torch", "keras": "tensorflow", "Flax": "jax", "gluon": "mxnet"}
    names |= {"mx": "mxnet", "PyTorch": "torch", "tf": "tensorflow"}
    parse = cli.parser().parse_args
    for name, wanted in names.items():
        assert parse(["train", "--backend", name]).backend == wanted
        assert parse(["bench", "--backends", name]).backends == (wanted,)
        assert parse(["port", "a", "--to", name, "--from", name]).to == wanted
        assert parse(["port", "a", "--to", name, "--from", name]).from_ == wanted
        assert parse(["check", "a", "--framework", name]).framework == wanted
        assert parse(["compare", "ports", "--backends", name]).backends == (wanted,)
    assert backends.load("nowhere" and ONE[0]) is backends.load(ONE[0].upper())


def test_what_another_run_left_is_replaced_only_on_request(tmp_path, capsys):
    for command, name in (
        (["train", "--backend"], "weights.safetensors"),
        (["train", "--reestimate", "--backend"], "phases.json"),
        (["compare", "training", "--backends"], "report.html"),
        (["compare", "precision", "--backends"], "precision.json"),
        (["compare", "ports", "--backends"], f"{ONE[0]}{matrix.SAVED[ONE[0]]}"),
    ):
        path = tmp_path / name
        path.write_text("precious")
        assert run(*command, *ONE, "--out", tmp_path) == 2
        message = f"{path} exists; it is overwritten only on request: --overwrite"
        assert capsys.readouterr() == ("", f"bn: error: {message}\n")
        assert path.read_text() == "precious"
        path.unlink()


def test_a_training_that_diverges_exits_with_1(small_data, tmp_path, capsys):
    options = ["--batch-size", 512, "--out", tmp_path, "--lr", 1e38, "--epochs", 3]
    assert run("train", "--backend", *ONE, *SMALL, *options, "--json") == 1
    out, error = capsys.readouterr()
    assert json.loads(out)["runs"][0]["loss"][-1] is None
    said = "--batch-size 512 is more than the 256 training images: each step takes them"
    assert error.startswith(f"{said} all\n")
    assert f"bn: error: the training of {ONE[0]} scratch diverged: its loss is" in error
    assert error.endswith("a smaller --lr may help\n")


def always(results):
    return lambda *arguments, **settings: results


def test_what_a_training_says(small_data, monkeypatch, capsys):
    trained = {"backend": "torch", "norm": "none", "loss": [1.0], "val_loss": 0.5}
    trained |= {"val_accuracy": 0.5, "images_per_second": 1.0}
    for change, what in (
        ({}, ""),
        ({"loss": [1.0, float("inf")]}, "its loss is inf at step 2"),
        ({"val_loss": float("nan")}, "its validation loss is nan"),
    ):
        results = {"data": "none", "runs": [trained | change]}
        monkeypatch.setattr(comparison, "compare_training", always(results))
        assert run("train", "--backend", *ONE, *SMALL) == bool(what)
        start, *rest = capsys.readouterr().err.splitlines()
        kept = "the weights of this training are not kept: --out FOLDER keeps them"
        assert start == kept
        diverged = f"bn: error: the training of torch none diverged: {what}"
        assert rest == ([f"{diverged}; a smaller --lr may help"] if what else [])


BN = [sys.executable, "-c", "import sys; from bn_from_scratch import cli; "]
BN[-1] += "sys.exit(cli.main())"


def test_a_reader_who_goes_away():
    process = subprocess.Popen(
        [*BN, "variants", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    process.stdout.close()
    _, error = process.communicate()
    assert error == b"bn: whoever reads the output stopped before its end\n"
    assert process.returncode == 141


def test_records_of_nan_are_told_in_our_words(tmp_path, capsys):
    path = tmp_path / "a.npz"
    values = {"X": np.full((4, 3), np.nan), "Y": np.full((4, 3), 1e308)}
    np.savez(path, **values, eps=np.array(np.inf))
    run("diagnose", path, path, "--json")
    out, error = capsys.readouterr()
    assert error == ""
    json.loads(out, parse_constant=pytest.fail)  # it is called for NaN and Infinity


def test_variants_as_json(capsys):
    assert run("variants", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    n = len(found["order"])
    assert len(found["pairs"]) == n * (n - 1) // 2
    pair = next(p for p in found["pairs"] if p["variants"] == ["ghost", "sync"])
    assert pair["combine"] is False and pair["reason"].startswith("one takes part")


def test_json_has_no_nan(monkeypatch, capsys):
    rows = [dict.fromkeys(layer.QUANTITIES, np.float32("nan"))]
    monkeypatch.setattr(layer, "compare_layer", lambda *a: rows)
    assert run("compare", "layer", "--backends", *ONE, "--json") == 1
    assert json.loads(capsys.readouterr().out)["rows"][0]["Y"] is None


def test_a_fault_of_ours_is_a_sentence_too(monkeypatch, capsys):
    def fails(args):
        raise AttributeError("x\x1b[2J\ny")

    monkeypatch.setattr(cli.training, "run_data", fails)
    assert run("data") == 2
    fault = r"AttributeError: x\x1b[2J\ny"
    message = f"bn: error: {fault}; a fault of bn: BN_TRACEBACK=1 shows where\n"
    assert capsys.readouterr() == ("", message)
    monkeypatch.setenv("BN_TRACEBACK", "1")
    with pytest.raises(AttributeError):
        run("data")


def test_train_knows_the_names_that_compare_has():
    args = cli.parser().parse_args(["train", "--backends", "jax", "--norms", "none"])
    assert (args.backend, args.norm) == ("jax", "none")


@pytest.mark.parametrize(
    "kind", [ValueError, TypeError, FileNotFoundError, ImportError]
)
def test_an_error_is_a_sentence_and_exits_with_2(monkeypatch, capsys, kind):
    def fails(args):
        raise kind("there is none")

    monkeypatch.setattr(cli.training, "run_data", fails)
    try:
        status = run("data")
    except kind:
        status = "a traceback"
    assert status == 2
    assert capsys.readouterr() == ("", "bn: error: there is none\n")


def test_no_framework_is_no_agreement(monkeypatch, capsys):
    monkeypatch.setattr(backends, "installed", list)
    for command in (["compare", "layer"], ["train", *SMALL]):
        assert run(*command) == 2
        *absent, error = capsys.readouterr().err.splitlines()
        assert absent == [
            f"{name} is not installed: pip install 'bn-from-scratch[{name}]'"
            for name in backends.NAMES
        ]
        assert error == (
            "bn: error: no framework is installed: pip install 'bn-from-scratch[all]'"
        )


def test_ctrl_c(monkeypatch, capsys):
    def interrupted(args):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli.training, "run_data", interrupted)
    assert run("data") == 130
    assert capsys.readouterr().err == "bn: interrupted\n"


def test_data(capsys):
    assert run("data", "--data", "garments", "--json") == 0
    assert json.loads(capsys.readouterr().out)["train_images"] == [20000, 28, 28]


def test_float64_reaches_every_backend(bn, capsys):
    name = bn.__package__.rpartition(".")[2]
    small = ["--samples", 64, "--dtype", "float64", "--json"]
    assert run("train", "--backend", name, *SMALL, *small) == 0
    assert json.loads(capsys.readouterr().out)["runs"][0]["dtype"] == "float64"


# --- Whole models --------------------------------------------------------------------


@pytest.fixture
def weights(tmp_path):
    """A file of PyTorch with one batch norm that was never trained."""
    torch = pytest.importorskip("torch")
    path = tmp_path / "w.pt"
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    torch.save(model.state_dict(), path)
    return path


def test_port(weights, capsys):
    out = weights.with_name("w.safetensors")
    command = "port", weights, "--to", "torch", "--out", out, "--eps", "1e-3"
    assert run(*command) == 0
    assert "Both sides agree" in capsys.readouterr().out
    assert training.load_weights(out)["1.running_var"].shape == (4,)
    assert run(*command) == 2
    assert "exists; it is overwritten only on request" in capsys.readouterr().err
    assert run(*command, "--overwrite", "--json") == 0
    assert json.loads(capsys.readouterr().out)["to"] == "torch"


def test_all_options_reach_port(monkeypatch, capsys):
    given = {}

    def port(source, to, out, **options):
        given.update(options, source=source, to=to, out=out)
        raise ValueError("enough")

    monkeypatch.setattr("bn_from_scratch.port.port", port)
    options = {"from_": "jax", "eps": 1e-3, "momentum": 0.3, "values": 8}
    options |= {"absent": "beta", "overwrite": True, "strict": True}
    text = "--from jax --eps 1e-3 --momentum 0.3 --values 8 --absent beta --overwrite "
    text += "--strict"
    assert run("port", "a.pt", "--to", "torch", "--out", "b.pt", *text.split()) == 2
    assert given == options | {"source": "a.pt", "to": "torch", "out": "b.pt"}
    assert capsys.readouterr().err == "bn: error: enough\n"


def test_a_strict_port_assumes_nothing(weights, capsys):
    out = weights.with_name("o.pt")
    command = "port", weights, "--to", "torch", "--out", out, "--strict"
    assert run(*command) == 1
    said = capsys.readouterr()
    assert "agree, if eps is 1e-05 (assumed; with 1e-3 the output wo" in said.out
    assert said.err == (
        "nothing was written: state --eps and --momentum, or leave --strict out\n"
    )
    assert not out.exists()
    assert run(*command, "--eps", "1e-5") == 1
    assert run(*command, "--eps", "1e-5", "--momentum", "0.1", "--json") == 0
    assert out.exists()


def test_port_of_a_file_that_is_none(tmp_path, capsys):
    path = tmp_path / "w.pt"
    path.write_bytes(b"no weights")
    assert run("port", path, "--to", "torch", "--out", tmp_path / "o.pt") == 2
    assert f"bn: error: {path} cannot be carried: " in capsys.readouterr().err
    assert not (tmp_path / "o.pt").exists()


def test_diagnose(tmp_path, capsys):
    X = np.random.default_rng(0).normal(3, 2, (8, 4))
    var = X.var(0)
    for name, n in (("a", 8), ("b", 7)):
        Y = (X - X.mean(0)) / np.sqrt(var + 1e-5)
        moving = {"moving_mean": 0.1 * X.mean(0), "moving_var": 0.9 + 0.1 * var * 8 / n}
        np.savez(
            tmp_path / f"{name}.npz",
            X=X,
            Y=Y,
            **{f"step1.{k}": v for k, v in moving.items()},
        )
    a, b = tmp_path / "a.npz", tmp_path / "b.npz"
    assert run("diagnose", a, a) == 0
    assert "are equal" in capsys.readouterr().out
    assert run("diagnose", a, b, "--json") == 1
    found = json.loads(capsys.readouterr().out)
    assert [cause["cause"] for cause in found["causes"]] == [
        "stored variance: unbiased"
    ]


def test_health(weights, tmp_path, capsys):
    page = tmp_path / "health.html"
    assert run("health", weights, "--page", page) == 1
    assert "statistics never moved" in capsys.readouterr().out
    assert "<svg" in page.read_text()
    assert run("health", weights, "--json") == 1
    assert json.loads(capsys.readouterr().out)["well"] is False


@pytest.fixture
def well(tmp_path):
    """A file of one batch norm that is well, and says no eps."""
    state = {"gamma": [1, 2], "beta": [0, 1], "moving_mean": [1, 2]}
    state["moving_var"] = [1.5, 2]
    path = tmp_path / "a.safetensors"
    arrays = {f"bn1.{k}": np.array(v, "float32") for k, v in state.items()}
    training.save_weights(path, arrays)
    return path


def test_strict_health_wants_to_know_eps(well, capsys):
    assert run("health", well, "--strict") == 1
    assert "the file does not say eps" in capsys.readouterr().out
    assert run("health", well, "--strict", "--eps", "1e-5") == 0
    assert "eps" not in capsys.readouterr().out


def test_a_model_that_is_well_exits_with_0(well, capsys):
    assert run("health", well) == 0
    assert "well" in capsys.readouterr().out
