"""How much is a difference, what closes one, and what a record may hold."""

import os

import numpy as np
import planted
import pytest

from bn_from_scratch import diagnosis
from bn_from_scratch.diagnosis import causes, search
from bn_from_scratch.diagnosis.numbers import candidates
from bn_from_scratch.diagnosis.recording import recordings
from bn_from_scratch.diagnosis.scale import distance
from bn_from_scratch.diagnosis.search import _grow
from bn_from_scratch.diagnosis.side import Side

BY_NAME = {m.name: m for m in causes.CAUSES}


def record(dtype="float64", sizes=(3, 2), **bugs):
    return planted.record(bugs, sizes, dtype, 0)


# --- Tolerances ----------------------------------------------------------------------


def plain(dtype, offset=0.0):
    """X and Y of a layer in training whose channels have mean 0: nothing cancels."""
    X = np.random.default_rng(0).normal(size=(8, 3))
    X = (X - X.mean(0)) / X.std(0)
    Y = X / np.sqrt(1 + 1e-5)
    Y[0, 1] += offset * np.abs(Y[:, 1]).max()
    return {"X": X.astype(dtype), "Y": Y.astype(dtype)}


@pytest.mark.parametrize(
    ("dtype", "rounding"), [("float64", 1e-6), ("float32", 1e-5), ("float16", 2e-3)]
)
def test_what_is_more_than_rounding_is_a_difference(dtype, rounding):
    """Of two outputs each may be off by so much of a channel's largest value."""
    alike = diagnosis.diagnose(plain(dtype), plain(dtype, rounding))
    assert alike.equal
    coarse = 16 * np.finfo(dtype).eps  # 8 roundings of the mean in each
    found = diagnosis.diagnose(plain(dtype), plain(dtype, 3 * rounding + coarse))
    assert not found.equal
    (worst,) = found.differences.values()
    assert (worst.key, worst.channel) == (("step1", "Y"), 1)
    assert 1 < worst.excess < 10


def test_a_mean_costs_the_rounding_of_a_few_spacings():
    """Of a channel at 1e9 with a scale of 1, in float64: 8 * 2.3e-16 * 1e9 a side."""
    X = plain("float64")["X"] + 1e9
    Y = (X - X.mean(0)) / np.sqrt(X.var(0) + 1e-5)
    rounding = 8 * 2.3e-16 * X.max()
    for apart, equal in ((rounding, True), (5 * rounding, False)):
        other = Y.copy()
        other[0, 1] += apart
        assert diagnosis.diagnose({"X": X, "Y": Y}, {"X": X, "Y": other}).equal == equal


@pytest.mark.parametrize("apart", [3e-7, 5e-6])
def test_what_two_layers_hold_agrees_to_a_millionth(apart):
    values = {"stored.gamma": np.array([1.0, 2.0, -4.0])}
    other = {"stored.gamma": np.array([1.0, 2.0 + 4 * apart, -4.0])}
    found = diagnosis.diagnose(record() | values, record() | other)
    assert found.equal == (apart < 1e-6)
    assert [c.name for c in found.causes] == ["other parameters"] * (not found.equal)


@pytest.mark.parametrize("output", ["Y", "dX", "dgamma"])
def test_nan_is_far_from_all_but_nan(output):
    shape = (4, 2) if output != "dgamma" else (2,)
    one, other = np.zeros(shape), np.zeros(shape)
    other[..., 0] = np.nan
    assert distance(one, other, output).tolist() == [np.inf, 0]
    assert distance(other, other, output).tolist() == [0, 0]
    assert distance(one + np.inf, one + np.inf, output).tolist() == [0, 0]


def test_a_variance_that_one_pass_keeps_is_compared():
    """Only where the mean is large may one pass lose it."""
    X = plain("float64")["X"]
    right = {"X": X + 100, "Y": plain("float64")["Y"]}
    wrong = right | {"Y": right["Y"] * [1, 1.5, 1]}
    found = diagnosis.diagnose(right, wrong)
    assert "one-pass variance" not in [cause.name for cause in found.causes]
    assert not found.equal


# --- The search ----------------------------------------------------------------------


class FakeSide:
    """A side of which each set of causes leaves these keys open."""

    def __init__(self, left):
        self.open = left

    def left(self, hypothesis):
        names = " + ".join(sorted(m.name for m in hypothesis.mistakes))
        return set(self.open.get(names, "abcdefgh"))


def grown(left, monkeypatch):
    """The causes that are added one by one, and what they leave."""
    names = "gamma missing", "updated twice", "momentum pools"
    monkeypatch.setattr(search, "CAUSES", [BY_NAME[name] for name in names])
    found = _grow(FakeSide(left), [(1e-5, 0.1)])
    return [m.name for m in found.hypothesis.mistakes], found.left


@pytest.mark.parametrize(
    ("left", "causes", "rest"),
    [
        ({"": "ab", "gamma missing": "c"}, [], "ab"),  # trades two for another
        ({"": "ab", "gamma missing": "bc"}, [], "ab"),  # trades one for another
        ({"": "ab", "gamma missing": "ab"}, [], "ab"),  # closes none
        ({"": "ab", "gamma missing": "b"}, ["gamma missing"], "b"),
        (
            {"": "abc", "gamma missing": "bc", "gamma missing + updated twice": "c"},
            ["gamma missing", "updated twice"],
            "c",
        ),
    ],
)
def test_a_cause_closes_keys_and_opens_none(left, causes, rest, monkeypatch):
    assert grown(left, monkeypatch) == (causes, set(rest))


def test_updates_that_contradict_each_other_do_not_go_together():
    never, always = (
        BY_NAME["moving averages: not updated"],
        BY_NAME["updated in prediction mode"],
    )
    backward = BY_NAME["updated in backward"]
    steps = causes.together([never, always])
    assert [steps.updates(training) for training in (True, False)] == [False, True]
    steps = causes.together([always, never])
    assert [steps.updates(training) for training in (True, False)] == [False, True]
    steps = causes.together([backward, never])
    assert not steps.updates(True)
    assert causes.together([never, BY_NAME["updated twice"]]) is None


def test_a_number_that_nothing_shows_is_no_cause():
    """Two eps of which a variance of 1e8 knows nothing."""
    X = 1e4 * plain("float64")["X"]
    one, other = (
        {"X": X, "Y": (X - X.mean(0)) / np.sqrt(X.var(0) + eps), "eps": np.array(eps)}
        for eps in (1e-5, 1e-3)
    )
    wrong = other | {"Y": 2 * other["Y"]}
    assert diagnosis.diagnose(one, other).equal
    assert "eps" not in [c.name for c in diagnosis.diagnose(one, wrong).causes]


@pytest.mark.parametrize(("off", "fits"), [(0, {0.1, 0.05}), (1e-3, {0.1})])
@pytest.mark.parametrize("name", ["moving_mean", "moving_var"])
def test_channels_that_move_differently_fit_no_momentum(name, off, fits):
    """Beside 0.1, which is tried without a reason."""
    one = {k: v for k, v in record().items() if k[:5] not in ("step2", "step3")}
    batch = one[name] + (one[f"step1.{name}"] - one[name]) / 0.1
    weight = 0.05 + off * np.array([0, 1, -1])
    moved = one[name] + weight * (batch - one[name])
    other = {k: v for k, v in one.items() if "moving" not in k or k == name}
    (found,) = recordings(other | {f"step1.{name}": moved}).values()
    usual, odd = candidates(Side(found, "a"))
    assert {momentum for _, momentum in usual + odd} == fits


# --- What is said --------------------------------------------------------------------


def test_the_largest_differences_are_shown_largest_first():
    found = diagnosis.diagnose(record(), record(**{"frozen": "x"}))
    excess = {str(d): d.excess for d in found.differences.values() if d.excess > 1}
    assert len(excess) > 5
    largest = sorted(excess, key=excess.get, reverse=True)[:5]
    shown = " ".join(str(found).split("Largest differences: ")[1].split())
    assert shown == "; ".join(largest) + "."


def test_a_difference_is_that_of_the_worst_channel():
    wrong = record()
    wrong["step1.Y"] = wrong["step1.Y"] * [1, 1, 1.25]
    found = diagnosis.diagnose(record(), wrong)
    assert found.differences["step1.Y"].channel == 2
    assert found.differences["step1.Y"].relative == pytest.approx(0.2, rel=0.01)


# --- Records -------------------------------------------------------------------------


def test_events_stand_in_the_order_of_their_numbers():
    X = np.ones((4, 3))
    names = ["half", "prediction", *(f"step{i}" for i in (10, 2, 1))]
    (found,) = recordings({f"{name}.X": X for name in names}).values()
    order = ["step1", "step2", "step10", "prediction", "half"]
    assert [event.name for event in found.events] == order


@pytest.mark.parametrize("dtype", ["bool", "complex128"])
def test_a_record_holds_real_numbers(dtype):
    with pytest.raises(ValueError, match=f"^X must hold numbers; its dtype is {dtype}"):
        recordings({"X": np.ones((4, 3), dtype)})


@pytest.mark.parametrize("kind", ["safetensors", "npz"])
def test_a_record_that_cannot_be_written_leaves_the_old_one(
    tmp_path, monkeypatch, kind
):
    path = tmp_path / f"a.{kind}"
    diagnosis.save({"X": np.ones((4, 3))}, path)

    def full(*_):
        raise OSError("full")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"^full$"):
        diagnosis.save({"X": np.zeros((4, 3))}, path)
    assert diagnosis.load(path)["X"].all()
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
