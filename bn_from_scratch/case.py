"""The case that every layer is tried on, and what the spec answers to it."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from bn_from_scratch import spec
from bn_from_scratch.spec import Axis

State = dict[str, np.ndarray]  # gamma, beta, moving_mean, moving_var
QUANTITIES = ("Y", "dX", "dgamma", "dbeta", "moving_mean", "moving_var")


def make_case(
    shape: tuple[int, ...],
    seed: int = 0,
    dtype: str = "float64",
    axis: Axis = spec.CHANNEL_AXIS,
) -> tuple[np.ndarray, np.ndarray, State]:
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


def expected(
    X: np.ndarray,
    dY: np.ndarray,
    state: State,
    *,
    training: bool,
    steps: int = 1,
    eps: float = spec.EPS,
    setting: Mapping[str, Any] | None = None,
) -> dict[str, np.ndarray]:
    """What the spec gives for `probe`: a dict of the six QUANTITIES."""
    moving = state["moving_mean"], state["moving_var"]
    gamma, beta = state["gamma"], state["beta"]
    options = {"training": training, "eps": eps}
    dX, dgamma, dbeta = spec.batch_norm_backward(dY, X, gamma, *moving, **options)
    options |= setting or {}
    for _ in range(steps):
        Y, *moving = spec.batch_norm(X, gamma, beta, *moving, **options)
    return dict(zip(QUANTITIES, (Y, dX, dgamma, dbeta, *moving), strict=True))


def difference(got: np.ndarray, want: np.ndarray) -> float:
    """Largest |got - want| relative to the largest |want|."""
    return float(np.max(np.abs(got - want)) / np.max(np.abs(want)))
