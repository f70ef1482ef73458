"""Known causes, planted in a layer written apart from the spec, are named."""

import collections
import itertools
import json
import subprocess
import sys

import numpy as np
import planted
import pytest

from bn_from_scratch import diagnosis


def trial(bugs, seed):
    """Two records, one of a layer with these bugs, and the names to be found."""
    rng = np.random.default_rng((seed, *map(ord, "".join(bugs))))
    images = {"wrong axes", "padding counted", "zeros left out"} & set(bugs)
    dims = 4 if images else int(rng.choice([2, 3, 4, 5], p=[0.3, 0.1, 0.5, 0.1]))
    dtype = "float32" if "one pass" in bugs else str(rng.choice(["float32", "float64"]))
    sizes = int(rng.integers(3, 8)), dims
    kinds = {bug: str(rng.choice(planted.BUGS[bug])) for bug in bugs}
    other = {
        "eps": float(rng.choice([1e-3, 1e-3, 1e-4, 1e-6, 3e-4])),
        "momentum": float(rng.choice([0.01, 0.01, 0.05, 0.3])),
    }
    settings = {"seed": seed, "other": other, "zeros": "zeros left out" in bugs}
    make = lambda bugs: planted.record(bugs, sizes, dtype, **settings)  # noqa: E731
    return make, kinds


def visible(make, kinds):
    """Whether every one of several bugs changes what the others leave."""
    whole = make(kinds)
    for bug in kinds:
        rest = make({k: v for k, v in kinds.items() if k != bug})
        if not any(apart(whole[k], rest[k]) for k in whole if k in rest):
            return False
    return True


def apart(one, other):
    largest = np.abs(np.nan_to_num(one)).max(initial=1e-30)
    return not np.allclose(one, other, rtol=0, atol=1e-4 * largest, equal_nan=True)


def named_right(make, kinds, side):
    """Whether the bugs are named, all on the side that has them, and nothing else."""
    records = [make({}), make(kinds)]
    found = diagnosis.diagnose(*(records if side == "b" else records[::-1]))
    right = {
        (k, side if k not in ("eps", "momentum") else "a and b") for k in kinds.values()
    }
    return {(c.name, c.side) for c in found.causes} == right and not found.unexplained


def exclusive(bugs):
    return any(len(group & set(bugs)) > 1 for group in planted.EXCLUSIVE)


def rates(trials):
    """{bugs: (right, trials)} of all that can be seen, over both sides."""
    found = collections.defaultdict(list)
    for seed, bugs in trials:
        make, kinds = trial(bugs, seed)
        if visible(make, kinds):
            found[bugs].append(named_right(make, kinds, "ab"[seed % 2]))
    return {bugs: (sum(right), len(right)) for bugs, right in found.items()}


def table(found):
    """The share that is named right, of every bug alone and in pairs."""
    lines = [f"{'cause':<32}{'alone':>8}{'in pairs':>10}"]
    for bug in planted.BUGS:
        alone = found.get((bug,), (0, 0))
        paired = [v for bugs, v in found.items() if bug in bugs and len(bugs) == 2]
        both = tuple(sum(column) for column in zip(*paired, strict=True)) or (0, 0)
        lines.append(f"{bug:<32}{'{}/{}'.format(*alone):>8}{'{}/{}'.format(*both):>10}")
    for size, what in ((1, "alone"), (2, "in pairs")):
        lines.append(f"all, {what}: {share(found, size):.1%}")
    return "\n".join(lines)


def share(found, size):
    """The share named right of sets of this size."""
    right, trials = zip(*(v for k, v in found.items() if len(k) == size), strict=True)
    return sum(right) / sum(trials)


def pairs():
    """Every pair of bugs that a layer can have together."""
    found = itertools.combinations(planted.BUGS, 2)
    return [bugs for bugs in found if not exclusive(bugs)]


@pytest.mark.parametrize(  # trials of every bug; pairs of bugs
    ("singles", "some"), [(3, 40), pytest.param(10, 200, marks=pytest.mark.slow)]
)
def test_planted_causes_are_named_and_nothing_else(singles, some):
    assert len(planted.BUGS) >= 14
    chosen = np.random.default_rng(0).permutation(len(pairs()))[:some]
    trials = [(seed, (bug,)) for bug in planted.BUGS for seed in range(singles)]
    found = rates(trials + [(7, pairs()[i]) for i in chosen])
    print(table(found))
    assert share(found, 1) >= 0.95
    assert share(found, 2) >= 0.85
    assert (
        min(right / of for bugs, (right, of) in found.items() if len(bugs) == 1) > 0.5
    )


# --- Equal layers --------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("seed", range(8))
def test_equal_layers_have_no_cause(dtype, seed):
    rng = np.random.default_rng(seed)
    sizes = int(rng.integers(1, 8)), int(rng.integers(2, 6))
    settings = {
        "eps": float(rng.choice([1e-3, 1e-5])),
        "momentum": rng.uniform(0.01, 1),
    }
    one = planted.record({}, sizes, "float64", seed, **settings)
    other = rounded_otherwise(planted.record({}, sizes, dtype, seed, **settings), rng)
    found = diagnosis.diagnose(
        {k: v.astype(other[k].dtype) for k, v in one.items()}, other
    )
    assert found.equal and found.causes == [] and found.unexplained == []
    assert str(found) == "a and b are equal, as far as rounding allows."


def rounded_otherwise(record, rng):
    """What a layer gave, as another that adds in another order may give it."""
    few = {
        k: 4 * np.finfo(v.dtype).eps * rng.normal(size=v.shape)
        for k, v in record.items()
    }
    outputs = ("Y", "moving_mean", "moving_var")
    return {
        k: (v * (1 + few[k])).astype(v.dtype)
        if k.split(".")[-1] in outputs and "." in k
        else v
        for k, v in record.items()
    }


def test_the_same_bug_in_both_is_no_cause():
    bugs = {"stored unbiased": "stored variance: unbiased"}
    one = planted.record(bugs, (4, 4), "float32", 0)
    assert diagnosis.diagnose(one, dict(one)).equal
    more = bugs | {"gamma fixed": "gamma missing"}
    found = diagnosis.diagnose(one, planted.record(more, (4, 4), "float32", 0))
    assert [c.name for c in found.causes] == ["gamma missing"]


# --- What is said --------------------------------------------------------------------


def two(bugs=(), sizes=(3, 2), dtype="float64", seed=0):
    """A right record and one with bugs of one kind."""
    kinds = {bug: planted.BUGS[bug][0] for bug in bugs}
    return [planted.record(b, sizes, dtype, seed) for b in ({}, kinds)]


def test_the_evidence_has_the_numbers():
    found = diagnosis.diagnose(*two(["stored unbiased", "other eps"]))
    first, second = found.causes
    assert (
        first.side == "b" and "1.04348 times, and n/(n-1) is 1.04348" in first.evidence
    )
    assert second.side == "a and b"
    assert second.evidence.startswith(
        "a's eps fits 1e-05 (the default elsewhere), b's 0.001 (Keras's default): b is "
        "off a's by "
    )
    assert "channel 1 (mean 0." in second.evidence


def test_a_swapped_momentum_is_told_from_another():
    (cause,) = diagnosis.diagnose(*two(["momentum swapped"])).causes
    assert (cause.name, cause.side) == ("momentum weighs the old value", "b")
    assert cause.evidence.startswith(
        "a weighs the new batch by 0.1 and the old value by 0.9, b by 0.9 and 0.1: "
    )


def test_two_updates_are_not_told_from_another_momentum():
    (cause,) = diagnosis.diagnose(*two(["updated twice"])).causes
    assert (cause.name, cause.alternatives) == ("updated twice", ("momentum 0.19",))
    known = {"momentum": np.array(0.1)}
    found = diagnosis.diagnose(*(r | known for r in two(["updated twice"])))
    assert found.causes[0].alternatives == ()


def test_two_updates_by_an_unusual_momentum_are_found():
    twice = {"updated twice": "updated twice"}
    pair = [planted.record(b, (3, 2), "float64", 0, momentum=0.05) for b in ({}, twice)]
    assert [c.name for c in diagnosis.diagnose(*pair).causes] == ["updated twice"]


def test_records_without_an_output_are_refused():
    with pytest.raises(ValueError, match="the record of a holds no output to compare"):
        diagnosis.diagnose({"X": np.ones((4, 3))}, {"X": np.ones((4, 3))})


def test_no_known_cause_is_said_plainly():
    right, wrong = two()
    for step in ("step1", "step2", "step3"):
        wrong[f"{step}.Y"] = np.tanh(wrong[f"{step}.Y"])
    found = diagnosis.diagnose(right, wrong)
    assert not found.equal and found.causes == []
    assert str(found).startswith("a and b differ: no known cause.\n")
    assert "No known cause: the spec, so explained, is off b by" in found.unexplained[0]


def test_as_dict_is_json():
    found = diagnosis.diagnose(*two(["frozen"])).as_dict()
    assert json.loads(json.dumps(found)) == found
    assert found["causes"][0]["cause"] == "training ignored: never training"
    assert not found["equal"] and found["differences"]["step1.Y"] > 0.1


# --- Partial records, other inputs, whole models -------------------------------------


def test_a_record_of_one_step_says_what_it_lacks():
    short = [
        {
            k.removeprefix("step1."): v
            for k, v in r.items()
            if k in ("step1.X", "step1.Y")
        }
        for r in two(["other eps"])
    ]
    start = {k: v for k, v in two()[0].items() if k in ("gamma", "beta")}
    found = diagnosis.diagnose(*(r | start for r in short))
    assert [c.name for c in found.causes] == ["eps"]
    assert found.notes == [
        "Not recorded: a prediction of a, the moving averages of a, a prediction of b, "
        "the moving averages of b; what shows there only cannot be told."
    ]


def test_a_swapped_order_of_given_parameters_is_read_off():
    one, other = two()
    other |= {"beta": one["moving_mean"], "moving_mean": one["moving_var"]}
    (cause,) = diagnosis.diagnose(one, other | {"step1.Y": one["step1.Y"]}).causes[:1]
    assert cause.name == "parameter order"
    assert (
        cause.evidence
        == "b's beta is a's moving_mean, b's moving_mean is a's moving_var."
    )


def test_stored_parameters_are_compared():
    one, other = two()
    values = {"stored.gamma": np.ones(3), "stored.moving_mean": np.arange(3.0)}
    found = diagnosis.diagnose(
        one | values, other | values | {"stored.gamma": np.zeros(3)}
    )
    assert [c.evidence for c in found.causes] == ["gamma differs by 1."]
    assert [c.name for c in found.causes] == ["other parameters"]


def test_same_against_valid_padding_shows_in_the_shape():
    rng = np.random.default_rng(0)
    one, other = ({"X": rng.normal(size=(4, 3, n, n + 1))} for n in (6, 10))
    (cause,) = diagnosis.diagnose(one, other).causes
    assert (cause.name, cause.side) == ("padding mode", "b")
    assert "2 more values at every edge" in cause.evidence and "5x5" in cause.evidence


def test_layers_of_models_are_paired_by_name_or_in_order():
    one, other = two(["frozen"])
    named = lambda name, record: {f"{name}.{k}": v for k, v in record.items()}  # noqa: E731
    a = named("bn1", one) | named("bn2", one)
    found = diagnosis.diagnose(a, named("bn2", other) | named("bn1", one))
    assert [(d.layer, d.equal) for d in found.layers] == [("bn1", True), ("bn2", False)]
    assert not found.equal and not found.notes
    found = diagnosis.diagnose(a, named("norm", one))
    assert [d.layer for d in found.layers] == ["bn1 / norm"] and not found.equal
    assert found.notes == [
        "a has 2 batch norms, b 1: the rest of the longer was not compared."
    ]


# --- Files ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["safetensors", "npz"])
def test_a_record_is_saved_and_loaded(tmp_path, kind):
    record = two()[0] | {"eps": np.array(1e-5), "momentum": np.array(0.1)}
    record["step1.dY"] = np.asfortranarray(record["step1.dY"])
    path = tmp_path / f"record.{kind}"
    diagnosis.save(record, path)
    loaded = diagnosis.load(path)
    assert loaded.keys() == record.keys()
    assert all(
        np.array_equal(np.ravel(v), np.ravel(loaded[k])) for k, v in record.items()
    )
    assert diagnosis.diagnose(path, str(path)).equal


@pytest.mark.parametrize("kind", ["safetensors", "npz"])
@pytest.mark.parametrize("harm", ["truncated", "foreign", "empty", "flipped"])
def test_a_file_that_is_not_whole_is_refused(tmp_path, kind, harm):
    path = tmp_path / f"record.{kind}"
    diagnosis.save(two()[0], path)
    content = path.read_bytes()
    harmed = {
        "truncated": content[: len(content) // 2],
        "foreign": b"not a record" * 100,
        "empty": b"",
        "flipped": bytes(255 - b for b in content[:300]) + content[300:],
    }
    path.write_bytes(harmed[harm])
    with pytest.raises(ValueError, match=r"is not a whole \.?(npz|safetensors) file"):
        diagnosis.load(path)


def test_a_single_array_is_no_record(tmp_path):
    with open(tmp_path / "record.npz", "wb") as file:
        np.save(file, np.ones(3))
    with pytest.raises(ValueError, match=r"is not a whole \.npz file"):
        diagnosis.load(tmp_path / "record.npz")


def test_a_pickle_is_not_opened(tmp_path):
    path = tmp_path / "record.npz"
    np.savez(path, **{"step1.X": np.array([{}], dtype=object)})
    with pytest.raises(ValueError, match=r"is not a whole \.npz file: Object arrays"):
        diagnosis.load(path)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({}, "the record is empty"),
        ({"gamma": np.ones(3)}, r"the record lacks step1\.X or prediction\.X"),
        ({"Y": np.ones((4, 3))}, r"the record lacks step1\.X"),
        ({"X": np.ones(3)}, r"X must be \[N, C, \*\]; step1\.X has shape \(3,\)"),
        ({"X": np.ones((4, 3)), "Z": np.ones(3)}, "'Z' is no key of a record"),
        (
            {"X": np.ones((4, 3)), "Y": np.ones((3, 4))},
            r"step1\.Y must have shape \(4, 3\); its shape is \(3, 4\)",
        ),
        (
            {"X": np.ones((4, 3)), "gamma": np.ones(4)},
            r"gamma must have shape \(3,\); its shape is \(4,\)",
        ),
        ({"X": np.array([["a"]])}, "X must hold numbers; its dtype is <U1"),
        (
            {"X": np.ones((4, 3)), "eps": np.ones(2)},
            r"eps must be one number; its shape is \(2,\)",
        ),
    ],
)
def test_what_is_no_record_is_refused(record, message):
    with pytest.raises(ValueError, match=message):
        diagnosis.diagnose(record, record)


def test_what_is_no_layer_is_refused():
    with pytest.raises(TypeError, match=r"^a layer or model of .* is wanted; got int$"):
        diagnosis.diagnose(3, 4)
    with pytest.raises(
        ValueError, match=r"\.safetensors or \.npz file; got record\.txt"
    ):
        diagnosis.load("record.txt")


def test_importing_it_imports_no_framework():
    names = "torch", "tensorflow", "keras", "jax", "mxnet"
    program = (
        "import bn_from_scratch.diagnosis, sys\n"
        f"print([n for n in {names} if n in sys.modules])"
    )
    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True
    )
    assert found.stdout.strip() == "[]"
