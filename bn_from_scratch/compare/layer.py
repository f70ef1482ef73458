"""`bn compare layer`: scratch and built-in layers against the spec, float64."""

import numpy as np

from bn_from_scratch import backends, spec
from bn_from_scratch.compare import norm_layer
from bn_from_scratch.compare.table import Figure, table

QUANTITIES = ("Y", "dX", "dgamma", "dbeta", "moving_mean", "moving_var")
SHAPES = {"2-D": (32, 5), "4-D": (8, 5, 7, 6)}  # all sizes differ
STEPS = 3
TOLERANCE = 1e-12


def make_case(shape, seed=0, dtype="float64", axis=spec.CHANNEL_AXIS):
    """Input far from mean 0 and std 1, a random cotangent, a random state.

    Not the gradient of a sum: that is zero for any correct batch norm.
    """
    rng = np.random.default_rng(seed)
    C = spec.stats_shape(shape, axis)
    state = {
        "gamma": rng.normal(1, 0.3, C),
        "beta": rng.normal(0, 1, C),
        "moving_mean": rng.normal(0, 1, C),
        "moving_var": rng.uniform(0.5, 2, C),
    }
    X, dY = rng.normal(3, 2, shape), rng.normal(0, 1, shape)
    state = {name: value.astype(dtype) for name, value in state.items()}
    return X.astype(dtype), dY.astype(dtype), state


def expected(X, dY, state, *, training, steps=1, eps=spec.EPS, setting=None):
    """What the spec gives for `probe`: a dict of the six QUANTITIES."""
    moving = state["moving_mean"], state["moving_var"]
    gamma, beta = state["gamma"], state["beta"]
    options = {"training": training, "eps": eps}
    dX, dgamma, dbeta = spec.batch_norm_backward(dY, X, gamma, *moving, **options)
    options |= setting or {}
    for _ in range(steps):
        Y, *moving = spec.batch_norm(X, gamma, beta, *moving, **options)
    return dict(zip(QUANTITIES, (Y, dX, dgamma, dbeta, *moving), strict=True))


def difference(got, want):
    """Largest |got - want| relative to the largest |want|."""
    return float(np.max(np.abs(got - want)) / np.max(np.abs(want)))


def compare_layer(names, norms):
    """A row for each backend, norm, rank and mode: its difference in every quantity."""
    rows = []
    for name in names:
        bn = backends.load(name, dtype="float64")
        for norm in norms:
            setting = bn.builtin_setting() if norm == "builtin" else {}
            for rank, shape in SHAPES.items():
                for training in (True, False):
                    X, dY, state = make_case(shape)
                    layer = norm_layer(bn, norm)(shape[1], len(shape), dtype="float64")
                    options = {"training": training, "steps": STEPS}
                    got = bn.probe(layer, X, dY, **options, state=state)
                    want = expected(X, dY, state, **options, setting=setting)
                    row = {"backend": name, "norm": norm, "rank": rank}
                    row["mode"] = "training" if training else "prediction"
                    row |= {q: difference(got[q], want[q]) for q in QUANTITIES}
                    rows.append(row)
    return rows


def agree(rows):
    """Whether every difference is within TOLERANCE (NaN is not)."""
    return all(row[q] <= TOLERANCE for row in rows for q in QUANTITIES)


def render(rows):
    """The table, what was translated for each built-in, and the verdict."""
    places = ("backend", "norm", "rank", "mode")
    cells = [
        [*(row[p] for p in places), *(Figure(row[q]) for q in QUANTITIES)]
        for row in rows
    ]
    lines = [
        "Largest difference from the spec, relative to the largest value; float64, "
        f"{STEPS} steps.",
        "",
        table([*places, *QUANTITIES], cells),
        "",
    ]
    for name in dict.fromkeys(r["backend"] for r in rows if r["norm"] == "builtin"):
        lines += [f"The built-in layer of {name}, as a setting of the spec:"]
        words = backends.load(name).builtin_translation()
        lines += [f"  {ours}: {theirs}" for ours, theirs in words.items()]
    worst = max(row[q] for row in rows for q in QUANTITIES)
    verdict = "agree with the spec" if agree(rows) else "DO NOT agree with the spec"
    lines += ["", f"All rows {verdict}: worst {worst:.1e}, tolerance {TOLERANCE:.0e}."]
    return "\n".join(lines)
