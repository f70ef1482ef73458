"""A figure to move: batch size, momentum and a shift against the moving statistics.

The spec computes every setting here; `presentation/templates/moving_statistics.html`
chooses among them, so it works without a kernel and without a network.
"""

from typing import Any

import numpy as np
from IPython.display import HTML

from bn_from_scratch import spec
from bn_from_scratch.presentation import pages

BATCH_SIZES = (2, 4, 8, 32, 128)
MOMENTA = (0.01, 0.05, 0.1, 0.2, 0.5)
SHIFTS = {"none": (0, 1), "X + 1": (1, 1), "X + 3": (3, 1), "2X + 3": (3, 2)}
WARM, BEFORE, AFTER = 300, 40, 80  # batches: not shown; shown before, after the shift
RUNS = 200  # repetitions of the same setting; the first is drawn


def simulate(batch_size: int, shift: str, seed: int = 0) -> tuple[np.ndarray, ...]:
    """Statistics of `RUNS` layers whose data, of mean 0 and variance 1, shift.

    Returns mean, var [T, RUNS] and moving_mean, moving_var [T, MOMENTA, RUNS] of the
    T batches that are shown; the shift comes `BEFORE` batches into them.
    """
    rng, steps = np.random.default_rng(seed), []
    momenta: Any = np.array(MOMENTA)[:, None]  # all of them at once
    moving = np.zeros((len(MOMENTA), RUNS)), np.ones((len(MOMENTA), RUNS))
    for step in range(-WARM - BEFORE, AFTER):
        add, times = SHIFTS[shift if step >= 0 else "none"]
        mean, var = spec.batch_stats(add + times * rng.normal(size=(batch_size, RUNS)))
        moving = spec.update_moving(*moving, mean, var, momenta)
        steps.append((mean, var, *moving))
    return tuple(np.stack(kind) for kind in zip(*steps[WARM:], strict=True))


def covered(moving_mean: np.ndarray, jump: float) -> int | None:
    """Batches until 95% of the jump is covered; None: never, or there is no jump."""
    after = np.flatnonzero(moving_mean[BEFORE:] >= 0.95 * jump)
    return int(after[0]) + 1 if jump and len(after) else None


def setting(batch_size: int, shift: str) -> dict[str, Any]:
    """What the page shows for them; moving, covered and std for every momentum.

    Statistics are in thousandths.  std is that of the moving mean before the shift.
    """
    shown = simulate(batch_size, shift)
    first = [np.rint(1000 * v[..., 0]).astype(int).T.tolist() for v in shown]
    moving_mean, (jump, _) = shown[2], SHIFTS[shift]
    return {
        "batch": dict(zip(("mean", "var"), first[:2], strict=True)),
        "moving": [{"mean": m, "var": v} for m, v in zip(*first[2:], strict=True)],
        "covered": [covered(line, jump) for line in moving_mean[..., 0].T],
        "std": np.sqrt(np.square(moving_mean[:BEFORE]).mean((0, 2))).round(4).tolist(),
    }


def grid() -> dict[str, Any]:
    """Everything the page shows: `settings[b][s]`, and what theory says of it."""
    n, m = np.array(BATCH_SIZES)[:, None], np.array(MOMENTA)
    return {
        "sizes": BATCH_SIZES,
        "momenta": MOMENTA,
        "shifts": SHIFTS,
        "before": BEFORE,
        "settings": [
            [setting(size, shift) for shift in SHIFTS] for size in BATCH_SIZES
        ],
        "covered": (np.log(0.05) / np.log(1 - m)).round(1).tolist(),
        "std": np.sqrt(m / (2 - m) / n).round(4).tolist(),
    }


def moving_statistics() -> HTML:
    """The figure for a notebook or a page: three sliders, two charts, two numbers."""
    return HTML(pages.fill("moving_statistics.html", data=grid()))
