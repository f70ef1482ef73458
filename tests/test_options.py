"""Every option of the layer in every backend, against the spec."""

import numpy as np
import pytest
import reference
from tolerances import TOLERANCE

from bn_from_scratch import spec
from bn_from_scratch.case import difference, make_case

STEPS = 3
ROWS = np.random.default_rng(1).random((9, 4, 3)) < 0.6


def assert_like(got, want, tolerance, dtype):
    """The same quantities, except gradients of what the layer has no parameter for."""
    for name, value in got.items():
        assert value.dtype == dtype, name
        if not np.any(want[name]):
            np.testing.assert_array_equal(value, want[name], err_msg=name)
            continue
        off = difference(value, want[name])
        assert off <= tolerance, f"{name} differs by {off:.1e}"


def check(bn, shape, options, dtype="float64", call=None, training=True, steps=STEPS):
    """A layer with these options does what the spec does; returns both."""
    call, axis = call or {}, options.get("axis", spec.CHANNEL_AXIS)
    X, dY, state = make_case(shape, dtype=dtype, axis=axis)
    absent = {"gamma": "scale", "beta": "center"}
    absent = {k for k, option in absent.items() if not options.get(option, True)}
    given = {k: v for k, v in state.items() if k not in absent}
    sizes = spec.stats_shape(shape, axis)
    sizes = sizes[0] if len(sizes) == 1 else sizes
    layer = bn.BatchNorm(sizes, len(shape), dtype=dtype, **options)
    mode = {"training": training, "steps": steps, "native": "axis" in options}
    got = bn.probe(layer, X, dY, **mode, state=given, **call)
    step = reference.layer_step(training=training, **options, **call)
    want = reference.expected(step, X, dY, state, steps)
    wanted = {"Y", "dX", "moving_mean", "moving_var"}
    if not options.get("frozen"):
        wanted |= {f"d{k}" for k in ("gamma", "beta") if k not in absent}
    if options.get("momentum", 0) is None:
        wanted |= {"moving_count"}
        want.setdefault("moving_count", 0.0)
    gradients = {k for k in ("dgamma", "dbeta") if not np.any(got.get(k, 0))}
    assert set(got) - gradients == wanted
    got = {k: v for k, v in got.items() if k in wanted}
    assert_like(got, want, TOLERANCE[dtype], dtype)
    return got, want


AXES = [
    ((9, 5), 1),
    ((9, 5), -1),
    ((6, 3, 4), 1),
    ((6, 3, 4), -1),
    ((5, 4, 3, 2), 1),
    ((5, 4, 3, 2), -1),
    ((5, 4, 3, 2), 2),
    ((5, 4, 3, 2), (1, 3)),
    ((5, 4, 3, 2), (-1, 1)),
    ((5, 4, 3, 2), [2, 3]),
    ((4, 2, 3, 2, 5), (1, 4)),
    ((3, 2, 2, 3, 2, 2), -2),
]


@pytest.mark.parametrize("training", [True, False], ids=["training", "prediction"])
@pytest.mark.parametrize(("shape", "axis"), AXES)
def test_axis(bn, shape, axis, training):
    check(bn, shape, {"axis": axis}, training=training)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("shape", [(9, 5), (5, 4, 3, 2)], ids=["2-D", "4-D"])
@pytest.mark.parametrize("training", [True, False], ids=["training", "prediction"])
@pytest.mark.parametrize(
    "options",
    [
        {"center": False},
        {"scale": False},
        {"center": False, "scale": False},
        {"correction": 1},
        {"eps": 0.5, "momentum": 0.3},
        {"momentum": None},
        {"momentum": None, "correction": 1},
        {"momentum": 0.0},
        {"momentum": 1.0},
        {"statistics": "batch"},
        {"frozen": "affine"},
        {"frozen": "all"},
        {"frozen": "all", "statistics": "batch"},
    ],
    ids=lambda options: " ".join(f"{k}={v}" for k, v in options.items()),
)
def test_option(bn, options, training, shape, dtype):
    check(bn, shape, options, dtype, training=training)


@pytest.mark.parametrize("training", [True, False], ids=["training", "prediction"])
def test_no_update_for_one_call(bn, training):
    got, _ = check(bn, (9, 5), {}, call={"update": False}, training=training)
    _, _, state = make_case((9, 5))
    for name in reference.STATISTICS:
        np.testing.assert_array_equal(got[name], state[name])


MASKS = {
    "2-D": ((9, 5), {}, ROWS[:, 0, 0]),
    "sequences": ((9, 5, 4), {}, ROWS[..., 0]),
    "sequences, channels last": ((9, 4, 5), {"axis": -1}, ROWS[..., 0]),
    "images": ((9, 2, 4, 3), {}, ROWS),
    "one channel": ((9, 1, 4), {}, ROWS[..., 0]),
    "axis 0 kept": ((5, 9, 4), {"axis": 0}, ROWS[..., 0]),
    "several axes": ((9, 5, 4, 2), {"axis": (1, 3)}, ROWS[..., 0]),
    "unbiased": ((9, 5, 4), {"correction": 1}, ROWS[..., 0]),
    "cumulative": ((9, 5, 4), {"momentum": None}, ROWS[..., 0]),
    "all valid": ((9, 5, 4), {}, np.ones((9, 4), bool)),
    "two values": ((9, 5), {}, np.arange(9) > 6),
    "one value": ((9, 5), {}, np.arange(9) == 3),
    "one value, cumulative": ((9, 5), {"momentum": None}, np.arange(9) == 3),
    "none valid": ((9, 5, 4), {}, np.zeros((9, 4), bool)),
    "none valid, cumulative": ((9, 5), {"momentum": None}, np.zeros(9, bool)),
}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("shape", "options", "mask"), MASKS.values(), ids=MASKS)
def test_mask(bn, shape, options, mask, dtype):
    check(bn, shape, options, dtype, call={"mask": mask})


def test_mask_in_prediction(bn):
    """It changes nothing, except where prediction takes statistics of the batch."""
    for statistics in ("moving", "batch"):
        options = {"statistics": statistics}
        check(bn, (9, 5), options, call={"mask": ROWS[:, 0, 0]}, training=False)


def test_a_mask_that_broadcasts_is_the_same(bn):
    X, dY, state = make_case((9, 5), axis=-1)
    results = []
    for mask in (ROWS[:, 0, 0], ROWS[:, :1, 0]):
        layer = bn.BatchNorm(5, dtype="float64", axis=-1)
        options = {"training": True, "state": state, "native": True, "mask": mask}
        results.append(bn.probe(layer, X, dY, **options))
    for name, value in results[0].items():
        np.testing.assert_array_equal(value, results[1][name])


def test_padding_does_not_reach_the_statistics(bn):
    """However large it is: not in Y elsewhere, nor in dX."""
    X, dY, state = make_case((9, 5))
    mask = ROWS[:, 0, 0]
    dY[~mask] = 0
    options = {"training": True, "state": state, "mask": mask}
    clean = bn.probe(bn.BatchNorm(5, dtype="float64"), X, dY, **options)
    X[~mask] = 1e300
    got = bn.probe(bn.BatchNorm(5, dtype="float64"), X, dY, **options)
    for name in ("Y", "dX"):
        np.testing.assert_array_equal(got[name][mask], clean[name][mask])
    for name in ("moving_mean", "moving_var"):
        np.testing.assert_array_equal(got[name], clean[name])


def test_cumulative_averages_are_those_of_all_values(bn):
    """momentum=None, batches of different sizes: as if all had come at once."""
    rng, batches = np.random.default_rng(0), []
    state = None
    for n in (4, 7, 2):
        batches.append(rng.normal(3, 2, (n, 5)))
        layer = bn.BatchNorm(5, momentum=None, correction=1, dtype="float64")
        got = bn.probe(layer, batches[-1], batches[-1], training=True, state=state)
        state = {k: v for k, v in got.items() if k.startswith("moving_")}
    joined = np.concatenate(batches)
    np.testing.assert_allclose(state["moving_mean"], joined.mean(0), rtol=1e-13)
    np.testing.assert_allclose(state["moving_var"], joined.var(0, ddof=1), rtol=1e-13)
    assert state["moving_count"] == 13


def test_initial_values(bn):
    """None of them is a float32, through which no float64 may pass."""
    values = {"gamma": 2.1, "beta": -1.3, "moving_mean": 0.7, "moving_var": 4.6}
    options = {f"{name}_initializer": value for name, value in values.items()}
    X, dY, _ = make_case((9, 5))
    got = bn.probe(bn.BatchNorm(5, dtype="float64", **options), X, dY, training=False)
    want = 2.1 * (X - 0.7) / np.sqrt(4.6 + spec.EPS) - 1.3
    np.testing.assert_allclose(got["Y"], want, rtol=1e-13)


def test_sizes_are_inferred(bn):
    """`BatchNorm()` is the layer with the sizes of the X that it first sees."""
    for shape, axis in (((9, 5), -1), ((5, 4, 3, 2), 1), ((5, 4, 3, 2), (1, 3))):
        X, dY, _ = make_case(shape, axis=axis)
        sizes = spec.stats_shape(shape, axis)
        sizes = sizes if isinstance(axis, tuple) else sizes[0]
        given = bn.BatchNorm(sizes, len(shape), axis=axis, dtype="float64")
        lazy = bn.BatchNorm(axis=axis, dtype="float64")
        results = [
            bn.probe(layer, X, dY, training=True, native=True)
            for layer in (given, lazy)
        ]
        for name, value in results[0].items():
            np.testing.assert_array_equal(value, results[1][name])
