"""The spec in steps small enough to get each one wrong.

`Steps` holds the right step for every place where an answer may go wrong; a mistake
replaces some of them, and `forward`, `backward` and the others then compute what an
answer with that mistake computes.  Arrays may be complex, so that the gradients are
those of a complex step.  Statistics keep the rank of X, whatever axes they are over.
"""

import dataclasses
import math
from collections.abc import Callable

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


@dataclasses.dataclass(frozen=True)
class Steps:
    """Every step of batch normalization, right until a mistake replaces it."""

    # Statistics: axes(ndim, channel_axis), mean(X, axes), var(X, mean, axes).
    axes: Callable = spec.reduce_axes
    mean: Callable = _mean
    var: Callable = _var
    # Which statistics normalize: used(training, batch, moving, moved) -> mean, var.
    mode: Callable = lambda training, recorded: training
    used: Callable = _used
    through_mean: Callable = lambda mean: mean
    through_var: Callable = lambda var: var
    # Normalization.
    var_to_normalize: Callable = lambda var, n: var
    eps: Callable = lambda eps: eps
    centre: Callable = lambda X, mean: X - mean
    root: Callable = lambda var, eps: np.sqrt(var + eps)
    affine: Callable = lambda X_hat, gamma, beta: gamma * X_hat + beta
    # Moving averages: n values per channel in N examples.
    momentum: Callable = lambda momentum: momentum
    stored_var: Callable = lambda var, n, N, eps: var
    move_mean: Callable = _move
    move_var: Callable = _move
    updates: Callable = lambda training: training  # how many times: yes is once
    returned: Callable = lambda mean, var: (mean, var)
    # The backward written by hand; S is a sum over the axes of the statistics.
    dbeta: Callable = lambda dY, S, n: S(dY)
    dgamma: Callable = lambda dY, X, X_hat, S, n: S(dY * X_hat)
    mean_term: Callable = lambda dbeta, n, N: dbeta / n
    var_term: Callable = lambda X_hat, dgamma, n, N: X_hat * dgamma / n
    factor: Callable = lambda gamma, std: gamma / std
    gradients: Callable = lambda dX, dgamma, dbeta: (dX, dgamma, dbeta)
    # Bookkeeping: of a function, then of a layer.
    in_place: bool = False
    overflows: bool = False
    gamma_init: Callable = np.ones
    moving_init: Callable = lambda C: (np.zeros(C), np.ones(C))
    init_trains: bool = False
    saves: bool = True
    frozen_trains: bool = False
    empty_poisons: bool = False
    accepts: tuple = ()  # wrong inputs, by name
    lenet_parameters: int = 44_878
    # Of a layer that was recorded (`bn_from_scratch.diagnosis`).
    loaded: Callable = lambda gamma, beta, mean, var: (gamma, beta, mean, var)
    updates_in_backward: Callable = lambda training: False
    pools: bool = False
    cancels: bool = False
    border: int = 0


RIGHT = Steps()
STEP = 1e-30  # of the complex derivative: exact to rounding


@np.errstate(all="ignore")  # a mistake may divide by 0
def batch_stats(steps, X, channel_axis):
    """Mean and variance as an answer with these steps returns them."""
    axes = steps.axes(X.ndim, channel_axis)
    mean = steps.mean(X, axes)
    return steps.returned(mean, steps.var(X, mean, axes))


@np.errstate(all="ignore")
def normalize(steps, X, mean, var, gamma, beta, eps, channel_axis):
    """Y of given statistics [C]."""
    mean, var, gamma, beta = like(X, channel_axis, mean, var, gamma, beta)
    n = spec.values_per_channel(X.shape, channel_axis)
    return _normalize(steps, X, mean, var, gamma, beta, steps.eps(eps), n)


def update_moving(steps, moving_mean, moving_var, mean, var, momentum):
    """The moving averages one batch on."""
    momentum = steps.momentum(momentum)
    moved = steps.move_mean(moving_mean, mean, momentum)
    return steps.returned(moved, steps.move_var(moving_var, var, momentum))


@np.errstate(all="ignore")
def forward(
    steps,
    X,
    gamma,
    beta,
    moving_mean,
    moving_var,
    *,
    training,
    eps,
    momentum,
    channel_axis,
    recorded=False,
):
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
    return Y, *steps.returned(*moving)


@np.errstate(all="ignore")
def backward(steps, dY, X, gamma, eps, channel_axis):
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


def gradients(steps, dY, X, gamma, beta, *rest, **options):
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


def directions(shape):
    """A few fixed directions, to know a gradient by.  -> [K, *shape]."""
    return np.random.default_rng(shape).normal(size=(4, *shape))


def projected(gradient):
    """Products of a whole gradient with its `directions`.  -> [K]."""
    return (directions(gradient.shape) * gradient).reshape(4, -1).sum(1)


def like(X, channel_axis, *vectors):
    """[C] vectors in the shape that broadcasts against X; others as they are."""
    shape = spec.param_shape(X.shape, channel_axis)
    return [v.reshape(shape) if v.ndim == 1 else v for v in vectors]


def _normalize(steps, X, mean, var, gamma, beta, eps, n):
    if n:
        var = steps.var_to_normalize(var, n)
    X_hat = steps.centre(X, mean) / steps.root(var, eps)
    return steps.affine(X_hat, gamma, beta)
