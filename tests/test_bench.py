"""`bn bench` on small shapes: what it reports, not how fast anything is."""

import json

import numpy as np
import pytest
from conftest import load_or_skip

from bn_from_scratch import backends, cli
from bn_from_scratch.compare import bench

SHAPES = ((4, 3, 5, 2), (8, 3, 2, 2))
SMALL = {"shapes": SHAPES, "growth": (1, 3)}


@pytest.fixture(autouse=True)
def one_step_a_sample(monkeypatch):
    monkeypatch.setattr(bench, "SAMPLE_SECONDS", 0)


def test_each_shape_and_each_growth_has_a_row(bn):
    name = bn.__package__.rpartition(".")[2]
    results = bench.compare_speed([name], **SMALL, rounds=2)
    assert [row["shape"] for row in results["speed"]] == [[4, 3, 5, 2], [8, 3, 2, 2]]
    assert [row["times"] for row in results["growth"]] == [1, 3]
    for row in results["speed"] + results["growth"]:
        assert row["backend"] == name
        assert min(row[norm] for norm in bench.NORMS) > 0
        assert row["fused/builtin"] > 0
    (kept,) = results["kept"]
    assert kept["shape"] == [4, 3, 5, 2]  # the largest
    assert all(kept[norm] is None or kept[norm] >= 0 for norm in bench.NORMS)

    shown = bench.render(results)
    assert "(8, 3, 2, 2)" in shown
    assert "fused/built-in" in shown


def test_the_command_prints_tables_or_json(monkeypatch, capsys):
    names, asked = backends.installed()[:1], []
    measured = bench.compare_speed(names, **SMALL, rounds=1)

    def compare_speed(names, rounds, progress):
        asked.append((list(names), rounds))
        return measured

    monkeypatch.setattr(bench, "compare_speed", compare_speed)
    options = ["bench", "--backends", *names, "--rounds", "2"]
    assert cli.main([*options, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == measured
    assert cli.main(options) == 0
    shown = capsys.readouterr().out
    assert "Growth with the number of examples, from (8, 3, 2, 2)." in shown
    assert "besides X and Y, in sizes of X, (4, 3, 5, 2)." in shown
    assert asked == [(names, 2)] * 2


def test_both_passes_are_in_training(bn):
    """Prediction would take a single value per channel."""
    X = np.ones((1, 3, 1, 1), "float32")
    for which in (0, 1):
        run = bn.prepare(bn.BatchNorm(3, 4), X, X)[which]
        with pytest.raises(ValueError, match="training needs more than one value"):
            run()


def test_the_step_goes_backward(bn):
    """A cotangent of other axes is noticed there, and only there."""
    X = np.random.default_rng(0).normal(3, 2, (4, 3, 5, 2)).astype("float32")
    forward, step = bn.prepare(bn.BatchNorm(3, 4), X, X[0, 0])
    forward()
    with pytest.raises(Exception, match=r"(?i)shape|incompatible|cotangent|size"):
        step()


def test_ratios_are_those_of_the_turns(monkeypatch):
    bn = load_or_skip("torch")
    times = {"scratch": [6.0, 9.0, 80.0], "fused": [2.0, 1.0, 4.0]}
    times["builtin"] = [2.0, 3.0, 8.0]
    monkeypatch.setattr(bench, "make_step", lambda bn, norm, shape: (None, norm))
    monkeypatch.setattr(bench, "repetitions", lambda step: 1)
    monkeypatch.setattr(bench, "seconds", lambda norm, n: times[norm].pop(0))
    got = bench.timings(bn, (2, 3), rounds=3)
    assert (got["scratch"], got["fused"], got["builtin"]) == (9000, 2000, 3000)
    assert (got["scratch/builtin"], got["fused/builtin"]) == (3, 0.5)


def test_rounds_must_be_positive(capsys):
    with pytest.raises(SystemExit, match=r"^2$"):
        cli.main(["bench", "--rounds", "0"])
    message = "argument --rounds: a whole number of at least 1 is wanted; got '0'"
    assert f"bn bench: error: {message}\n" in capsys.readouterr().err
