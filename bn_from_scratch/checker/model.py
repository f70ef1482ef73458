"""The spec in steps small enough to get each one wrong.

`Steps` holds the right step for every place where an answer may go wrong; a mistake
replaces some of them, and `forward`, `backward` and the others then compute what an
answer with that mistake computes.  Arrays may be complex, so that the gradients are
those of a complex step.  Statistics keep the rank of X, whatever axes they are over.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from bn_from_scratch import spec
from bn_from_scratch.spec import stop_gradient


def _mean(X, axes):
    return X.mean(axes, keepdims=True)


def _var(X, mean, axes):
    return np.square(X - mean).mean(axes, keepdims=True)


def _used(training, batch, moving, moved):
    return batch if training else moving


def _move(old, new, momentum):
    return (1 - momentum) * old + momentum * new


Step = Callable[..., Any]  # its arguments stand beside the right one


@dataclasses.dataclass(frozen=True)
class Steps:
    """Every step of batch normalization, right until a mistake replaces it.

    >>> doubled = dataclasses.replace(RIGHT, mean=lambda X, axes: 2 * _mean(X, axes))
    >>> X = np.array([[1.0], [3.0]])
    >>> batch_stats(RIGHT, X, 1)[0].item(), batch_stats(doubled, X, 1)[0].item()
    (2.0, 4.0)
    """

    # Statistics: axes(ndim, channel_axis), mean(X, axes), var(X, mean, axes).
    axes: Step = spec.reduce_axes
    mean: Step = _mean
    var: Step = _var
    # Which statistics normalize: used(training, batch, moving, moved) -> mean, var.
    mode: Step = lambda training, recorded: training
    used: Step = _used
    through_mean: Step = lambda mean: mean
    through_var: Step = lambda var: var
    # Normalization.
    var_to_normalize: Step = lambda var, n: var
    eps: Step = lambda eps: eps
    centre: Step = lambda X, mean: X - mean
    root: Step = lambda var, eps: np.sqrt(var + eps)
    affine: Step = lambda X_hat, gamma, beta: gamma * X_hat + beta
    # Moving averages: n values per channel in N examples.
    momentum: Step = lambda momentum: momentum
    stored_var: Step = lambda var, n, N, eps: var
    move_mean: Step = _move
    move_var: Step = _move
    updates: Step = lambda training: training  # how many times: yes is once
    returned: Step = lambda mean, var: (mean, var)
    # The backward written by hand; S is a sum over the axes of the statistics.
    dbeta: Step = lambda dY, S, n: S(dY)
    dgamma: Step = lambda dY, X, X_hat, S, n: S(dY * X_hat)
    mean_term: Step = lambda dbeta, n, N: dbeta / n
    var_term: Step = lambda X_hat, dgamma, n, N: X_hat * dgamma / n
    factor: Step = lambda gamma, std: gamma / std
    gradients: Step = lambda dX, dgamma, dbeta: (dX, dgamma, dbeta)
    # Bookkeeping: of a function, then of a layer.
    in_place: bool = False
    overflows: bool = False
    gamma_init: Step = np.ones
    moving_init: Step = lambda C: (np.zeros(C), np.ones(C))
    init_trains: bool = False
    saves: bool = True
    frozen_trains: bool = False
    empty_poisons: bool = False
    accepts: tuple[str, ...] = ()  # wrong inputs, by name
    lenet_parameters: int = 44_878
    # Of a layer that was recorded (`bn_from_scratch.diagnosis`).
    loaded: Step = lambda gamma, beta, mean, var: (gamma, beta, mean, var)
    updates_in_backward: Step = lambda training: False
    pools: bool = False
    cancels: bool = False
    border: int = 0


RIGHT = Steps()
STEP = 1e-30  # of the complex derivative: exact to rounding


@np.errstate(all="ignore")  # a mistake may divide by 0
def batch_stats(
    steps: Steps, X: np.ndarray, channel_axis: int
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance as an answer with these steps returns them."""
    axes = steps.axes(X.ndim, channel_axis)
    mean = steps.mean(X, axes)
    return steps.returned(mean, steps.var(X, mean, axes))


@np.errstate(all="ignore")
def normalize(
    steps: Steps,
    X: np.ndarray,
    mean: np.ndarray,
    var: np.ndarray,
    gamma: np.ndarray,
    beta: np.ndarray,
    eps: float,
    channel_axis: int,
) -> np.ndarray:
    """Y of given statistics [C]."""
    mean, var, gamma, beta = like(X, channel_axis, mean, var, gamma, beta)
    n = spec.values_per_channel(X.shape, channel_axis)
    return _normalize(steps, X, mean, var, gamma, beta, steps.eps(eps), n)


def update_moving(
    steps: Steps,
    moving_mean: np.ndarray,
    moving_var: np.ndarray,
    mean: np.ndarray,
    var: np.ndarray,
    momentum: float,
) -> tuple[np.ndarray, np.ndarray]:
    """The moving averages one batch on."""
    momentum = steps.momentum(momentum)
    moved = steps.move_mean(moving_mean, mean, momentum)
    return steps.returned(moved, steps.move_var(moving_var, var, momentum))


@np.errstate(all="ignore")
def forward(
    steps: Steps,
    X: np.ndarray,
    gamma: np.ndarray,
    beta: np.ndarray,
    moving_mean: np.ndarray,
    moving_var: np.ndarray,
    *,
    training: bool,
    eps: float,
    momentum: float,
    channel_axis: int,
    recorded: bool = False,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Y and both moving averages; `recorded` says whether gradients are asked for."""
    training = steps.mode(training, recorded)
    eps, momentum = steps.eps(eps), steps.momentum(momentum)
    moving = gamma, beta, moving_mean, moving_var
    gamma, beta, *moving = like(X, channel_axis, *moving)
    axes = steps.axes(X.ndim, channel_axis)
    n = math.prod([X.shape[a] for a in axes])
    mean = steps.mean(X, axes)
    var = steps.var(X, mean, axes)
    new_mean = stop_gradient(mean)
    new_var = steps.stored_var(stop_gradient(var), n, X.shape[0], eps)
    moved = moving
    for _ in range(max(1, steps.updates(training))):
        moved = [
            steps.move_mean(moved[0], new_mean, momentum),
            steps.move_var(moved[1], new_var, momentum),
        ]
    batch = steps.through_mean(mean), steps.through_var(var)
    mean, var = steps.used(training, batch, moving, moved)
    Y = _normalize(steps, X, mean, var, gamma, beta, eps, n if training else None)
    if steps.updates(training):
        moving = moved
    moving_mean, moving_var = steps.returned(*moving)
    return Y, moving_mean, moving_var


@np.errstate(all="ignore")
def backward(
    steps: Steps,
    dY: np.ndarray,
    X: np.ndarray,
    gamma: np.ndarray,
    eps: float,
    channel_axis: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """dX, dgamma and dbeta of a batch in training, by (7)-(10)."""
    axes = steps.axes(X.ndim, channel_axis)
    n, N = math.prod([X.shape[a] for a in axes]), X.shape[0]

    def total(values):
        return values.sum(axes, keepdims=True)

    (gamma,) = like(X, channel_axis, gamma)
    mean = steps.mean(X, axes)
    var = steps.var_to_normalize(steps.var(X, mean, axes), n)
    std = steps.root(var, steps.eps(eps))
    X_hat = steps.centre(X, mean) / std
    dbeta, dgamma = steps.dbeta(dY, total, n), steps.dgamma(dY, X, X_hat, total, n)
    along_mean = steps.mean_term(total(dY), n, N)
    along_var = steps.var_term(X_hat, total(dY * X_hat), n, N)
    dX = steps.factor(gamma, std) * (dY - along_mean - along_var)
    return steps.gradients(dX, dgamma, dbeta)


def gradients(
    steps: Steps,
    dY: np.ndarray,
    X: np.ndarray,
    gamma: np.ndarray,
    beta: np.ndarray,
    *rest: np.ndarray,
    **options: Any,
) -> list[np.ndarray]:
    """Gradients of sum(dY * Y) of `forward` by a complex step.

    Those of gamma and beta, and of X its products with `directions`: [K], [C], [C].
    """

    def slope(*inputs):
        return np.imag((dY * forward(steps, *inputs, *rest, **options)[0]).sum()) / STEP

    def along(vectors, inputs, i):
        moved = (
            [*inputs[:i], inputs[i] + STEP * 1j * v, *inputs[i + 1 :]] for v in vectors
        )
        return np.array([slope(*m) for m in moved])

    inputs, unit = [X, gamma, beta], np.eye(len(gamma))
    vectors = directions(X.shape), unit, unit
    return [along(v, inputs, i) for i, v in enumerate(vectors)]


def directions(shape: tuple[int, ...]) -> np.ndarray:
    """A few fixed directions, to know a gradient by.  -> [K, *shape]."""
    return np.random.default_rng(shape).normal(size=(4, *shape))


def projected(gradient: np.ndarray) -> np.ndarray:
    """Products of a whole gradient with its `directions`.  -> [K]."""
    return (directions(gradient.shape) * gradient).reshape(4, -1).sum(1)


def like(X: np.ndarray, channel_axis: int, *vectors: np.ndarray) -> list[np.ndarray]:
    """[C] vectors in the shape that broadcasts against X; others as they are."""
    shape = spec.param_shape(X.shape, channel_axis)
    return [v.reshape(shape) if v.ndim == 1 else v for v in vectors]


def _normalize(steps, X, mean, var, gamma, beta, eps, n):
    if n:
        var = steps.var_to_normalize(var, n)
    X_hat = steps.centre(X, mean) / steps.root(var, eps)
    return steps.affine(X_hat, gamma, beta)
