"""Every variant in every backend: against the spec, then neutral, then combined."""

import functools

import numpy as np
import pytest
import reference
from reference import accumulated, ghost_step, keras_renorm_step, layer_step, lite_step
from test_options import assert_like
from tolerances import TOLERANCE

from bn_from_scratch import combinations, spec
from bn_from_scratch.case import difference, make_case

STEPS = 3
SHAPES = {"2-D": (12, 5), "4-D": (12, 4, 3, 2)}
LIMITS = {"r_max": 1.2, "d_max": 0.3}  # they clip some channels of the case, not all
SCALE, SHIFT = 1.1, -0.2
KERAS = {"renorm_clipping": {"rmax": 1.3, "dmax": 0.4, "rmin": 0.9}}


def adjustment(*arguments):
    """The same at every call; JAX gives a key before the shape."""
    return SCALE, SHIFT


def halve(gamma, beta, mean, var):
    return gamma / 2, beta - 1, mean, 4 * var


def renormed(**limits):
    return layer_step(training=True, operands=reference.renormed(**limits))


def adjusted(mean, var, gamma, beta, state):
    return mean, var, *spec.scale_and_shift(gamma, beta, SCALE, SHIFT)


def halved(mean, var, gamma, beta, state):
    return mean, 4 * var, gamma / 2, beta - 1


def train(**options):
    return layer_step(training=True, **options)


# name: (classes, options of the constructor, the step of the spec while training)
CASES = {
    "ghost": (["ghost"], {"ghost_size": 4}, ghost_step(ghost_size=4)),
    "ghost, strided": (
        ["ghost"],
        {"ghost_size": 3, "order": "strided"},
        ghost_step(ghost_size=3, order="strided"),
    ),
    "ghost, mean of variances": (
        ["ghost"],
        {"ghost_size": 4, "variance": "mean", "correction": 1},
        ghost_step(ghost_size=4, variance="mean", correction=1),
    ),
    "renorm": (["renorm"], LIMITS, renormed(**LIMITS)),
    "renorm, own lower limit": (
        ["renorm"],
        LIMITS | {"r_min": 0.5},
        renormed(**LIMITS, r_min=0.5),
    ),
    "renorm, unclipped": (
        ["renorm"],
        {"renorm_clipping": {}},
        renormed(r_max=np.inf, d_max=np.inf, r_min=0),
    ),
    "renorm, Keras's words": (
        ["renorm"],
        KERAS,
        renormed(r_max=1.3, d_max=0.4, r_min=0.9),
    ),
    "renorm, averages of its own": (
        ["renorm"],
        {"r_max": 1.3, "d_max": 9, "r_min": 0.9, "renorm_momentum": 0.3},
        keras_renorm_step(renorm_momentum=0.3, r_max=1.3, d_max=9, r_min=0.9),
    ),
    "adjust": (["adjust"], {"adjustment": adjustment}, train(operands=adjusted)),
    "adjust, given": (
        ["adjust"],
        {"adjustment": (SCALE, SHIFT)},
        train(operands=adjusted),
    ),
    "sync": (["sync"], {}, train()),
    "accumulate": (["accumulate"], {"steps": 3}, "accumulated"),
    "accumulate, half way": (["accumulate"], {"steps": 2}, "accumulated"),
    "freeze": (["freeze"], {}, train(frozen="all")),
    "transform": (["transform"], {"transform": halve}, train(operands=halved)),
    "transform, off": (
        ["transform"],
        {"transform": halve, "transformed": False},
        train(),
    ),
    "fused": (["fused"], {}, train()),
    "fused, no gamma": (["fused"], {"scale": False}, train(scale=False)),
    "mean only": (["mean_only"], {}, lite_step(training=True, subtract=True)),
    "var only": (["var_only"], {}, lite_step(training=True, subtract=False)),
    "ghost + renorm": (
        ["ghost", "renorm"],
        {"ghost_size": 4} | LIMITS,
        ghost_step(ghost_size=4, operands=reference.renormed(**LIMITS)),
    ),
    "ghost + transform": (
        ["ghost", "transform"],
        {"ghost_size": 4, "transform": halve},
        ghost_step(ghost_size=4, operands=halved),
    ),
    "renorm + adjust": (
        ["renorm", "adjust"],
        LIMITS | {"adjustment": adjustment},
        train(
            operands=lambda m, v, g, b, s: reference.renormed(**LIMITS)(
                *adjusted(m, v, g, b, s), s
            )
        ),
    ),
    "transform + renorm": (
        ["transform", "renorm"],
        LIMITS | {"transform": halve},
        train(
            operands=lambda m, v, g, b, s: halved(
                *reference.renormed(**LIMITS)(m, v, g, b, s), s
            )
        ),
    ),
    "sync + renorm": (["sync", "renorm"], LIMITS, renormed(**LIMITS)),
    "accumulate + fused": (["accumulate", "fused"], {"steps": 3}, "accumulated"),
}
CLASSES = {
    "ghost": "GhostBatchNorm",
    "renorm": "BatchRenorm",
    "adjust": "AdjustedBatchNorm",
    "sync": "SyncBatchNorm",
    "accumulate": "AccumBatchNorm",
    "freeze": "FrozenBatchNorm",
    "transform": "TransformedBatchNorm",
    "fused": "FusedBatchNorm",
    "mean_only": "MeanOnlyBatchNorm",
    "var_only": "VarOnlyBatchNorm",
}
MOVING = ("moving_mean", "moving_var")


def make(bn, names, shape, dtype="float64", **options):
    if len(names) == 1:
        cls = getattr(bn, CLASSES[names[0]])
    else:
        cls = bn.combine(*names)
    return cls(shape[1], len(shape), dtype=dtype, **options)


def run(bn, names, options, case, dtype="float64", **mode):
    X, dY, state = case
    if not options.get("scale", True):
        state = {k: v for k, v in state.items() if k != "gamma"}
    layer = make(bn, names, X.shape, dtype, **options)
    return bn.probe(layer, X, dY, state=state, **mode)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("name", CASES)
def test_training(bn, name, shape, dtype):
    names, options, step = CASES[name]
    case = make_case(shape, dtype=dtype)
    got = run(bn, names, options, case, dtype, training=True, steps=STEPS)
    if step == "accumulated":
        step = accumulated(train(), options["steps"])
    state = case[2] | {"renorm_mean": np.zeros(shape[1])}
    state |= {"renorm_std": np.ones(shape[1])}
    want = reference.expected(step, *case[:2], state, STEPS)
    assert {"Y", "dX", *MOVING} <= set(got)
    got = {k: v for k, v in got.items() if k in want}
    if "freeze" in names:
        got = {k: v for k, v in got.items() if k not in ("dgamma", "dbeta")}
    assert_like(got, want, TOLERANCE[dtype], dtype)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", CASES)
def test_prediction(bn, name, dtype):
    """The core's, unless the variant changes what `normalize` is given always."""
    names, options, _ = CASES[name]
    case = make_case(SHAPES["4-D"], dtype=dtype)
    got = run(bn, names, options, case, dtype, training=False, steps=2)
    step = layer_step(training=False, scale=options.get("scale", True))
    if "transform" in names and options.get("transformed", True):
        step = layer_step(training=False, operands=halved)
    if "mean_only" in names or "var_only" in names:
        step = lite_step(training=False, subtract="mean_only" in names)
    want = reference.expected(step, *case)
    got = {k: v for k, v in got.items() if k in want}
    if "freeze" in names:
        got = {k: v for k, v in got.items() if k not in ("dgamma", "dbeta")}
    assert_like(got, want, TOLERANCE[dtype], dtype)


ONE_AXIS = "ghost", "renorm", "sync", "fused", "var only"  # the others keep two


@pytest.mark.parametrize(
    ("name", "axis"),
    [*((name, (1, -1)) for name in CASES), *((name, -2) for name in ONE_AXIS)],
)
def test_axis(bn, name, axis):
    """The layer that keeps other axes is that of axis 1, on X with its axes moved."""
    names, options, step = CASES[name]
    X, dY, state = make_case((12, 3, 2, 4), axis=axis)
    given = {k: v for k, v in state.items() if k != "gamma" or "scale" not in options}
    sizes = spec.stats_shape(X.shape, axis)
    sizes = sizes[0] if len(sizes) == 1 else sizes
    layer = make(bn, names, (None, sizes, *X.shape[2:]), axis=axis, **options)
    mode = {"training": True, "steps": STEPS, "native": True}
    got = bn.probe(layer, X, dY, state=given, **mode)

    kept = spec.kept_axes(4, axis)
    order = [0, *kept, *(a for a in (1, 2, 3) if a not in kept)]

    def moved(v):
        v = v.transpose(order)
        return v.reshape(12, np.prod(v.shape[1 : 1 + len(kept)]), -1)

    if step == "accumulated":
        step = accumulated(train(), options["steps"])
    state = {k: v.reshape(-1) for k, v in state.items()}
    own = {
        "renorm_mean": np.zeros(np.prod(sizes)),
        "renorm_std": np.ones(np.prod(sizes)),
    }
    want = reference.expected(step, moved(X), moved(dY), state | own, STEPS)
    assert got["moving_mean"].shape == spec.stats_shape(X.shape, axis)
    got = {k: v for k, v in got.items() if k in want}
    if "freeze" in names:
        got = {k: v for k, v in got.items() if k not in ("dgamma", "dbeta")}
    got = {k: moved(v) if k in ("Y", "dX") else v.reshape(-1) for k, v in got.items()}
    assert_like(got, want, TOLERANCE["float64"], "float64")


# The batch lies below and above what r and d lead to, within the limits and beyond.
NEAR = np.array([-2, -0.1, 0.1, 0.2, 2, 3])  # means, in standard deviations
WIDE = np.array([0.25, 4, 1, 1.1, 0.9, 9])  # variances, in those of the batch
BOTH_SIDES = {
    "clipped": {"r_max": 1.5, "d_max": 0.5},
    "own lower limit": {"r_max": 1.5, "d_max": 0.5, "r_min": 0.9},
    "unclipped": {"renorm_clipping": {}},
}


def near_case():
    """make_case, where the statistics of the batch are on both sides of the state."""
    X, dY, state = make_case((12, 6))
    mean, var = spec.batch_stats(X)
    return (
        X,
        dY,
        state
        | {
            "moving_mean": mean + np.sqrt(var) * NEAR,
            "moving_var": var * WIDE,
        },
    )


def limits_of(options):
    """r_max, d_max, r_min"""
    if "renorm_clipping" in options:
        return {"r_max": np.inf, "d_max": np.inf, "r_min": 0}
    return options


def test_the_case_is_on_both_sides():
    X, _, state = near_case()
    mean, var = spec.batch_stats(X)
    like = state["moving_mean"], np.sqrt(state["moving_var"] + spec.EPS)
    r, d = spec.renorm_factors(mean, var, *like, spec.EPS, **BOTH_SIDES["clipped"])
    assert {1 / 1.5, 1.5} < set(r) and {-0.5, 0.5} < set(d)
    assert np.any((-0.5 < d) & (d < 0)) and np.any((0 < d) & (d < 0.5))


@pytest.mark.parametrize("options", BOTH_SIDES.values(), ids=BOTH_SIDES)
def test_renorm_on_both_sides(bn, options):
    X, dY, state = near_case()
    got = run(bn, ["renorm"], options, (X, dY, state), training=True)
    want = reference.expected(renormed(**limits_of(options)), X, dY, state)
    got = {k: v for k, v in got.items() if k in want}
    assert_like(got, want, TOLERANCE["float64"], "float64")


@pytest.mark.parametrize("options", BOTH_SIDES.values(), ids=BOTH_SIDES)
def test_renorm_with_averages_of_its_own_on_both_sides(bn, options):
    """One of them is a standard deviation below sqrt(eps), which is its least."""
    X, dY, state = near_case()
    state["renorm_mean"] = state["moving_mean"] + 0.1
    state["renorm_std"] = np.sqrt(state["moving_var"])
    state["renorm_std"][3] = 1e-6
    own = options | {"renorm_momentum": 0.3}
    got = run(bn, ["renorm"], own, (X, dY, state), training=True)
    limits = limits_of(options)
    limits = {"r_min": 1 / limits["r_max"]} | limits
    step = keras_renorm_step(renorm_momentum=0.3, **limits)
    want = reference.expected(step, X, dY, state)
    got = {k: v for k, v in got.items() if k in want}
    assert {"renorm_mean", "renorm_std"} < set(got)
    assert_like(got, want, TOLERANCE["float64"], "float64")


EPS = {"eps": 0.5}
OTHER_EPS = {
    "ghost": ({"ghost_size": 4}, ghost_step(ghost_size=4, **EPS)),
    "renorm": (LIMITS, train(operands=reference.renormed(**LIMITS, **EPS), **EPS)),
    "adjust": ({"adjustment": (SCALE, SHIFT)}, train(operands=adjusted, **EPS)),
    "sync": ({}, train(**EPS)),
    "accumulate": ({"steps": 2}, train(update=False, **EPS)),
    "freeze": ({}, train(frozen="all", **EPS)),
    "transform": ({"transform": halve}, train(operands=halved, **EPS)),
    "fused": ({}, train(**EPS)),
    "mean_only": ({}, lite_step(training=True, subtract=True, **EPS)),
    "var_only": ({}, lite_step(training=True, subtract=False, **EPS)),
}


@pytest.mark.parametrize("name", OTHER_EPS)
def test_the_eps_of_a_variant(bn, name):
    options, step = OTHER_EPS[name]
    X, dY, state = make_case((12, 5))
    got = run(bn, [name], options | EPS, (X, dY, state), training=True)
    want = reference.expected(step, X, dY, state)
    got = {k: v for k, v in got.items() if k in want}
    if name == "freeze":
        got = {k: v for k, v in got.items() if k not in ("dgamma", "dbeta")}
    assert_like(got, want, TOLERANCE["float64"], "float64")


def test_a_ghost_batch_of_one_example_has_values(bn):
    """As many as its image has pixels."""
    X, dY, state = make_case(SHAPES["4-D"])
    got = run(bn, ["ghost"], {"ghost_size": 1}, (X, dY, state), training=True)
    want = reference.expected(ghost_step(ghost_size=1), X, dY, state)
    assert_like(got, want, TOLERANCE["float64"], "float64")


def test_prediction_by_the_batch_takes_the_statistics_of_the_core(bn):
    """Whatever a variant trains with: no replica is there to be asked."""

    class Strange(bn.BatchNorm):
        def batch_stats(self, X, mask):
            mean, var, n = super().batch_stats(X, mask)
            return mean + 1, 4 * var, n

    X, dY, state = make_case((12, 5))
    layer = Strange(5, 2, dtype="float64", statistics="batch")
    for training in (False, True):
        got = bn.probe(layer, X, dY, training=training, state=state)
        step = layer_step(training=training, statistics="batch")
        want = reference.expected(step, X, dY, state)
        off = np.max(np.abs(got["Y"] - want["Y"]))
        assert off > 0.1 if training else off <= 1e-12


NEUTRAL = {
    "ghost": {"ghost_size": 12},
    "renorm": {"r_max": 1.0, "d_max": 0.0},
    "adjust": {"adjustment": (1.0, 0.0)},
    "sync": {},
    "accumulate": {"steps": 1},
    "transform": {"transform": lambda *given: given},
    "fused": {},
}
ONE_ROUNDING = 4e-16  # of the largest value; two for what is multiplied up
PAIRS = [
    (first, second)
    for first in NEUTRAL
    for second in NEUTRAL
    if first < second and combinations.refusal(first, second) is None
]


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize(
    "names", [*((name,) for name in NEUTRAL), *PAIRS], ids=" + ".join
)
def test_the_neutral_setting_is_the_core(bn, names, shape):
    """Also of every pair that combines."""
    case = make_case(shape)
    options = {k: v for name in names for k, v in NEUTRAL[name].items()}
    mode = {"training": True, "steps": STEPS}
    got = run(bn, names, options, case, **mode)
    core = bn.BatchNorm(shape[1], len(shape), dtype="float64")
    want = bn.probe(core, *case[:2], state=case[2], **mode)
    for name, value in want.items():
        off = np.max(np.abs(got[name] - value)) / np.max(np.abs(value))
        assert off <= 4 * ONE_ROUNDING, f"{name} differs by {off:.1e}"


@pytest.mark.parametrize("name", CASES)
def test_no_update_for_one_call(bn, name):
    """Nothing that a variant counts or averages moves."""
    names, options, _ = CASES[name]
    case = make_case((12, 5))
    got = run(bn, names, options, case, training=True, update=False)
    start = run(bn, names, options, case, training=False)
    statistics = {k for k in got if k not in ("Y", "dX", "dgamma", "dbeta")}
    for statistic in statistics:
        np.testing.assert_array_equal(got[statistic], start[statistic])


def test_mean_only_then_var_only_is_the_core(bn):
    X, dY, state = make_case((12, 5))
    one = {"gamma": np.ones(5), "beta": np.zeros(5)}
    mode = {"training": True}
    half = run(bn, ["mean_only"], {}, (X, dY, one), **mode)["Y"]
    whole = run(bn, ["var_only"], {}, (half, dY, state), **mode)
    core = bn.probe(bn.BatchNorm(5, dtype="float64"), X, dY, state=state, **mode)
    np.testing.assert_allclose(whole["Y"], core["Y"], atol=1e-14)


def test_accumulated_micro_batches_move_like_the_joined_batch(bn):
    """Of different sizes, with the variance between their means."""
    rng, state = np.random.default_rng(0), None
    batches = [rng.normal(k, 1 + k, (n, 5)) for k, n in enumerate((4, 7, 2))]
    for X in batches:
        layer = make(bn, ["accumulate"], (1, 5), steps=3, momentum=0.3)
        got = bn.probe(layer, X, X, training=True, state=state)
        state = {k: v for k, v in got.items() if k.startswith(("moving", "accum"))}
        if X is not batches[-1]:
            np.testing.assert_array_equal(got["moving_mean"], np.zeros(5))
    joined = np.concatenate(batches)
    core = bn.BatchNorm(5, momentum=0.3, dtype="float64")
    want = bn.probe(core, joined, joined, training=True)
    for name in MOVING:
        np.testing.assert_allclose(got[name], want[name], rtol=1e-14)
    for name in ("mean", "var", "count", "steps"):
        assert not np.any(state[f"accumulated_{name}"])


@pytest.mark.parametrize("correction", [0, 1])
def test_a_micro_batch_without_values_is_none(bn, correction):
    """Padding alone, as the first of three: the other two are the joined batch."""
    X, dY, _ = make_case((12, 5))
    masks = np.zeros(12, bool), np.arange(12) < 7, np.arange(12) >= 7
    state, options = None, {"steps": 3, "correction": correction}
    for mask in masks:
        layer = make(bn, ["accumulate"], X.shape, **options)
        got = bn.probe(layer, X, dY, training=True, state=state, mask=mask)
        state = {k: v for k, v in got.items() if k.startswith(("moving", "accum"))}
    core = bn.BatchNorm(5, dtype="float64", correction=correction)
    want = bn.probe(core, X, dY, training=True)
    for name in MOVING:
        np.testing.assert_allclose(got[name], want[name], rtol=1e-13)


@pytest.mark.parametrize(
    ("step", "r_max", "d_max"),
    [(0, 1, 0), (5_000, 1, 0), (15_000, 1 + 2 / 3.5, 2.5), (1_000_000, 3, 5)],
)
def test_the_schedule_of_renorm_is_that_of_the_paper(bn, step, r_max, d_max):
    X, dY, state = make_case((12, 5))
    given = state | {"num_updates": np.array(float(step))}
    got = run(bn, ["renorm"], {}, (X, dY, given), training=True)
    want = reference.expected(renormed(r_max=r_max, d_max=d_max), X, dY, state)
    assert_like({"Y": got["Y"]}, want, 1e-13, "float64")
    assert got["num_updates"] == step + 1


def test_a_schedule_is_a_function_of_the_step(bn):
    X, dY, state = make_case((12, 5))
    options = {"r_max": lambda step: 1 + 0.1 * step, "d_max": lambda step: 0.1 * step}
    given = state | {"num_updates": np.array(3.0)}
    got = run(bn, ["renorm"], options, (X, dY, given), training=True)
    want = reference.expected(renormed(r_max=1.3, d_max=0.3), X, dY, state)
    assert_like({"Y": got["Y"]}, want, 1e-13, "float64")


def test_the_straight_through_gradient_is_that_of_the_identity(bn):
    """The transform shows in Y, and in dX through the values, not its derivative."""
    X, dY, state = make_case((12, 5))
    options = {"transform": halve, "straight_through": True}
    got = run(bn, ["transform"], options, (X, dY, state), training=True)
    plain = run(bn, ["transform"], {"transform": halve}, (X, dY, state), training=True)
    np.testing.assert_allclose(got["Y"], plain["Y"], rtol=1e-13)
    np.testing.assert_allclose(got["dgamma"], 2 * plain["dgamma"], rtol=1e-13)

    def step(X, gamma, beta, state):
        mean, var = spec.batch_stats(X)
        given = gamma, beta, mean, var
        made = (
            v + np.real(new) - np.real(v)
            for v, new in zip(given, halve(*given), strict=True)
        )
        gamma, beta, mean, var = made
        return spec.normalize(X, mean, var, gamma, beta, spec.EPS), {}

    want = reference.expected(step, X, dY, state)
    assert_like({k: got[k] for k in ("dX", "dgamma", "dbeta")}, want, 1e-12, "float64")


@pytest.mark.parametrize("shape", [(64, 6, 14, 14), (100_000, 6)], ids=["4-D", "2-D"])
def test_fused_is_exact_at_any_mean(bn, shape):
    """Where PyTorch compiles, too: from 65,536 values on."""
    rng = np.random.default_rng(0)
    for mean in (0, 1e2, 1e3, 1e4):
        X = rng.normal(mean, 1, shape).astype("float32")
        got = bn.probe(bn.FusedBatchNorm(6, len(shape)), X, X, training=True)["Y"]
        one, zero = np.ones(6), np.zeros(6)
        want = spec.batch_norm(X, one, zero, zero, one, training=True)[0]
        assert np.max(np.abs(got - want)) <= 1e-5


@pytest.mark.parametrize("axis", [0, (0, 2), (0, 3), (1, 2), (-2, 1)])
def test_fused_on_any_axes(bn, axis):
    """The first one too, neighbours or not: the core's numbers."""
    shape = (5, 4, 3, 2)
    X, dY, state = make_case(shape, axis=axis)
    sizes = spec.stats_shape(shape, axis)
    sizes = sizes[0] if len(sizes) == 1 else sizes
    mode = {"training": True, "steps": STEPS, "state": state, "native": True}
    got, want = (
        bn.probe(cls(sizes, 4, axis=axis, dtype="float64"), X, dY, **mode)
        for cls in (bn.FusedBatchNorm, bn.BatchNorm)
    )
    assert_like(got, want, TOLERANCE["float64"], "float64")


def test_the_gradients_of_fused_at_a_large_mean(bn):
    """In float32, where a mean of 1e4 is rounded by half a thousandth."""
    rng = np.random.default_rng(0)
    X = rng.normal(1e4, 1, (64, 6, 7, 7)).astype("float32")
    dY = (X - 1e4 + rng.normal(0, 1, X.shape)).astype("float32")
    got = bn.probe(bn.FusedBatchNorm(6, 4), X, dY, training=True)
    one, zero = np.ones(6), np.zeros(6)
    want = spec.batch_norm_backward(dY, X, one, zero, one, training=True)
    for name, value in zip(("dX", "dgamma", "dbeta"), want, strict=True):
        off = difference(got[name], value)
        assert off <= TOLERANCE["float32"], f"{name} differs by {off:.1e}"


def test_fused_takes_16_bit_input(bn):
    X, dY, state = make_case((64, 5))
    X, dY = (300 * X).astype("float16"), dY.astype("float16")
    state = {name: value.astype("float32") for name, value in state.items()}
    layer = bn.FusedBatchNorm(5, 2, dtype="float16")
    got = bn.probe(layer, X, dY, training=True, state=state)
    want = reference.expected(train(), X, dY, state)
    assert got["Y"].dtype == got["dX"].dtype == np.float16
    assert got["dgamma"].dtype == got["moving_var"].dtype == np.float32
    bounds = {"Y": "float16", "dX": "float16", "moving_var": "float32"}
    bounds |= {"dgamma": "float32", "dbeta": "float32"}
    for name, bound in bounds.items():
        off = np.max(np.abs(got[name] - want[name])) / np.max(np.abs(want[name]))
        assert off <= TOLERANCE[bound], name


@pytest.mark.parametrize("axis", [None, -1, 1, (1, 3)])
@pytest.mark.parametrize("feature_axis", [1, -1, (1, 2)])
def test_layer_norm(bn, axis, feature_axis):
    shape = (5, 4, 3, 2)
    X, dY, state = make_case(shape, axis=feature_axis)
    state = {k: state[k] for k in ("gamma", "beta")}
    options = {"axis": axis, "feature_axis": feature_axis, "dtype": "float64"}
    layer = bn.LayerNorm(state["gamma"].shape, 4, **options)
    for training in (True, False):
        mode = {"training": training, "native": True}
        got = bn.probe(layer, X, dY, state=state, **mode)

        def step(X, gamma, beta, state):
            axes = {"axis": axis, "feature_axis": feature_axis}
            return spec.layer_norm(X, gamma, beta, **axes), {}

        want = reference.expected(step, X, dY, state)
        assert set(got) == {"Y", "dX", "dgamma", "dbeta"}
        assert_like(got, want, TOLERANCE["float64"], "float64")


def test_layer_norm_does_not_see_the_scale_of_an_example(bn):
    X, dY, _ = make_case((9, 5))
    layer = bn.LayerNorm(5, eps=1e-30, dtype="float64")
    Y = bn.probe(layer, X, dY, training=True)["Y"]
    scales = np.logspace(-3, 3, 9)[:, None]
    scaled = bn.probe(layer, scales * X, dY, training=True)["Y"]
    np.testing.assert_allclose(scaled, Y, atol=1e-12)


REFUSED = {
    "remainder": (
        (["ghost"], {"ghost_size": 5}, {}),
        "ghost batches of 5 must divide the batch; X has shape (12, 5)",
    ),
    "one value": (
        (["ghost"], {"ghost_size": 1}, {}),
        "training needs more than one value per channel; "
        "a ghost batch has shape (1, 5)",
    ),
    "ghost mask": (
        (["ghost"], {"ghost_size": 4}, {"mask": np.ones(12, bool)}),
        "ghost batch norm takes no mask",
    ),
}


@pytest.mark.parametrize(("what", "message"), REFUSED.values(), ids=REFUSED)
def test_refused_inputs(bn, what, message):
    from test_batch_norm import message_of

    names, options, call = what
    X, dY, _ = make_case((12, 5))
    layer = make(bn, names, X.shape, **options)
    with pytest.raises(ValueError) as caught:
        bn.probe(layer, X, dY, training=True, **call)
    assert message_of(bn, caught) == message


@pytest.mark.parametrize("names", combinations.REFUSED, ids=" + ".join)
def test_what_does_not_combine_is_refused_by_name(bn, names):
    message = f"{names[0]} and {names[1]} do not combine: "
    message += combinations.REFUSED[names]
    for order in (names, names[::-1]):
        with pytest.raises(ValueError) as caught:
            bn.combine(*order)
        assert str(caught.value) == message
    with pytest.raises(ValueError, match="do not combine"):
        type("Both", tuple(getattr(bn, CLASSES[name]) for name in names), {})


def test_fused_takes_a_mask(bn):
    X, dY, state = make_case((12, 5))
    mask = np.arange(12) % 3 > 0
    got = run(bn, ["fused"], {}, (X, dY, state), training=True, mask=mask)
    want = reference.expected(train(mask=mask), X, dY, state)
    assert_like(got, want, TOLERANCE["float64"], "float64")


def test_a_mask_and_an_adjustment_go_through_sync(bn):
    X, dY, state = make_case((12, 5))
    mask = np.arange(12) % 3 > 0
    options = {"adjustment": (SCALE, SHIFT)}
    case = X, dY, state
    got = run(bn, ["sync", "adjust"], options, case, training=True, mask=mask)
    want = reference.expected(train(operands=adjusted, mask=mask), X, dY, state)
    got = {k: v for k, v in got.items() if k in want}
    assert_like(got, want, TOLERANCE["float64"], "float64")


@pytest.mark.parametrize("bits", [2, 8])
def test_fake_quantization_is_that_of_the_spec(bn, bits):
    """Through a layer in prediction, whose operands are put on the grid."""
    X, dY, state = make_case((12, 5))
    state["beta"] = np.zeros(5)  # all 0 stays all 0
    transform = functools.partial(bn.fake_quantize, bits=bits)
    options = {"transform": transform}
    got = run(bn, ["transform"], options, (X, dY, state), training=False)
    names = "moving_mean", "moving_var", "gamma", "beta"
    on_grid = [spec.quantize(state[name], bits) for name in names]
    want = spec.normalize(X, *on_grid, spec.EPS)
    np.testing.assert_allclose(got["Y"], want, rtol=1e-12)


MASKED = {  # every variant that takes a mask
    "core": ([], {}),
    "core, cumulative": ([], {"momentum": None, "correction": 1}),
    "core, by the batch": ([], {"statistics": "batch"}),
    "renorm": (["renorm"], LIMITS),
    "renorm, averages of its own": (["renorm"], LIMITS | {"renorm_momentum": 0.3}),
    "adjust": (["adjust"], {"adjustment": adjustment}),
    "sync": (["sync"], {}),
    "accumulate": (["accumulate"], {"steps": 2}),
    "freeze": (["freeze"], {}),
    "transform": (["transform"], {"transform": halve}),
    "mean only": (["mean_only"], {}),
    "var only": (["var_only"], {}),
}


@pytest.mark.parametrize("training", [True, False], ids=["training", "prediction"])
@pytest.mark.parametrize(("names", "options"), MASKED.values(), ids=MASKED)
def test_padding_may_hold_anything(bn, names, options, training):
    """NaN, infinity, what overflows: as if the batch were the valid examples alone."""
    X, dY, state = make_case((12, 5), dtype="float32")
    mask = np.arange(12) % 5 > 1
    valid = X[mask], dY[mask], state
    dY[~mask] = 0
    X[~mask] = np.array([np.nan, np.inf, -np.inf, 3e38, 1e30, -1e19])[:, None]
    call = {"training": training, "steps": STEPS}
    cls = bn.combine(*names) if names else bn.BatchNorm
    got, want = (
        bn.probe(cls(5, 2, **options), X, dY, state=state, **call, **mode)
        for X, dY, state, mode in ((X, dY, state, {"mask": mask}), (*valid, {}))
    )
    assert np.all(got["dX"][~mask] == 0)
    got |= {name: got[name][mask] for name in ("Y", "dX")}
    assert got.keys() == want.keys()
    assert_like(got, want, 2 * TOLERANCE["float32"], "float32")


ROUNDED = {  # a way of its own to X, each; "fused" is in test_precision
    "core, by the batch": ([], {"statistics": "batch"}),
    "renorm": (["renorm"], LIMITS),
    "mean only": (["mean_only"], {}),
    "ghost": (["ghost"], {"ghost_size": 3}),
}


@pytest.mark.parametrize(("names", "options"), ROUNDED.values(), ids=ROUNDED)
def test_dX_in_16_bits_is_rounded_once(bn, names, options):
    """Against the float64 layer on the same numbers: half a unit of the 11 bits."""
    X, dY, _ = make_case((6, 3), dtype="float16")
    wide = (X.astype("float64"), dY.astype("float64"))
    policy = {"dtype": "mixed_float16"} if hasattr(bn.BatchNorm, "get_config") else {}
    cls = bn.combine(*names) if names else bn.BatchNorm
    for training in (True, False):
        got = bn.probe(cls(3, 2, **policy, **options), X, dY, training=training)
        exact = cls(3, 2, dtype="float64", **options)
        want = bn.probe(exact, *wide, training=training)
        assert got["dX"].dtype == np.float16
        off = difference(got["dX"], want["dX"])
        assert off <= 2**-11 + 1e-5, f"{off:.1e}"
