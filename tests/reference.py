"""What the spec gives for a layer with options, and for the variants: the first oracle.

A step is a function (X, gamma, beta, state) -> Y, state: one call of a layer, whose
statistics are the dict `state`.  It is written with the functions of the spec alone.
"""

import numpy as np
from derivatives import gradients

from bn_from_scratch import spec
from bn_from_scratch.spec import CHANNEL_AXIS, EPS, MOMENTUM

STATISTICS = ("moving_mean", "moving_var")


def expected(step, X, dY, state, steps=1):
    """What `probe` must return: the last of `steps` calls, its gradients, the state."""
    gamma, beta = (np.asarray(state[k], np.float64) for k in ("gamma", "beta"))
    X, dY = X.astype(np.float64), dY.astype(np.float64)
    found = {k: np.float64(v) for k, v in state.items() if k not in ("gamma", "beta")}
    for _ in range(steps):
        before = found
        Y, found = step(X, gamma, beta, before)
        found = before | found

    def forward(X, gamma, beta):
        return step(X, gamma, beta, before)[0]

    return {"Y": Y} | gradients(forward, dY, X=X, gamma=gamma, beta=beta) | found


def moved(state, mean, var, n, *, momentum=MOMENTUM, correction=0):
    """The state after a batch of n values per channel."""
    mean, var = spec.stop_gradient(mean), spec.stop_gradient(var)
    moving = [state[k] for k in STATISTICS]
    if n < 2:
        return {}
    if momentum is None:
        count = state.get("moving_count", 0)
        new = spec.cumulate(*moving, count, mean, var, n, correction)
        return dict(zip((*STATISTICS, "moving_count"), new, strict=True))
    new = spec.update_moving(*moving, mean, spec.unbiased(var, n, correction), momentum)
    return dict(zip(STATISTICS, new, strict=True))


def layer_step(
    *,
    training,
    eps=EPS,
    axis=CHANNEL_AXIS,
    mask=None,
    update=True,
    statistics="moving",
    frozen=None,
    center=True,
    scale=True,
    operands=lambda mean, var, gamma, beta, state: (mean, var, gamma, beta),
    **moving,
):
    """The layer with its options; `operands` is what a variant makes of the four."""
    by_batch = (training or statistics == "batch") and frozen != "all"

    def step(X, gamma, beta, state):
        gamma = gamma if scale else np.ones_like(gamma)
        beta = beta if center else np.zeros_like(beta)
        mean, var, n = state["moving_mean"], state["moving_var"], 0
        if by_batch:
            mean_, var_, n = stats(X, axis, mask)
            mean, var = (mean_, var_) if n > 1 else (mean, var)
        given = operands(mean, var, gamma, beta, state)
        Y = spec.normalize(X, *given, eps, axis)
        if not (training and by_batch and update):
            return Y, {}
        return Y, moved(state, mean, var, n, **moving)

    return step


def stats(X, axis, mask):
    if mask is not None:
        kept = spec.kept_axes(X.ndim, axis)
        return spec.masked_stats(X, np.expand_dims(mask, kept), axis)
    return *spec.batch_stats(X, axis), spec.values_per_channel(X.shape, axis)


def ghost_step(*, ghost_size, order="contiguous", variance="total", eps=EPS, **kw):
    """Every virtual batch by itself; the moving averages by all of them."""
    operands = kw.pop("operands", lambda m, v, gamma, beta, s: (m, v, gamma, beta))

    def step(X, gamma, beta, state):
        groups = spec.ghost_batches(X, ghost_size, order)
        where = spec.ghost_batches(np.arange(len(X)), ghost_size, order)
        Y, n = np.empty_like(X + gamma.sum() + beta.sum()), X[:, 0].size
        parts = [spec.batch_stats(group) for group in groups]
        for group, rows, part in zip(groups, where, parts, strict=True):
            given = operands(*part, gamma, beta, state)
            Y[rows] = spec.normalize(group, *given, eps)
        mean, var = (spec.stop_gradient(np.stack(v)) for v in zip(*parts, strict=True))
        if variance == "mean":
            return Y, moved(state, mean.mean(0), var.mean(0), n, **kw)
        mean, var, _ = spec.pool(mean, var, np.ones(len(parts)))
        return Y, moved(state, mean, var, n, **kw)

    return step


def renormed(r_max, d_max, r_min=None, eps=EPS):
    """The operands of renorm, whose r and d lead to the moving averages."""

    def operands(mean, var, gamma, beta, state):
        like = state["moving_mean"], np.sqrt(state["moving_var"] + eps)
        r, d = spec.renorm_factors(mean, var, *like, eps, r_max, d_max, r_min)
        return mean, var, *spec.scale_and_shift(gamma, beta, r, d)

    return operands


def keras_renorm_step(*, renorm_momentum, r_max, d_max, r_min, eps=EPS):
    """As in Keras: r and d lead to averages of their own, of mean and std."""

    def step(X, gamma, beta, state):
        mean, var = spec.batch_stats(X)
        own = state["renorm_mean"], state["renorm_std"]
        like = own[0], np.maximum(own[1], np.sqrt(eps))
        r, d = spec.renorm_factors(mean, var, *like, eps, r_max, d_max, r_min)
        Y = spec.normalize(X, mean, var, *spec.scale_and_shift(gamma, beta, r, d), eps)
        after = moved(state, mean, var, X[:, 0].size)
        mean, std = spec.stop_gradient(mean), np.sqrt(spec.stop_gradient(var) + eps)
        own = spec.update_moving(*own, mean, std, renorm_momentum)
        return Y, after | dict(zip(("renorm_mean", "renorm_std"), own, strict=True))

    return step


def accumulated(step_of, steps):
    """Each call is normalized alone; one in `steps` moves as their joined X would."""
    calls = []

    def step(X, gamma, beta, state):
        Y = layer_step(training=True)(X, gamma, beta, state)[0]
        if np.iscomplexobj(Y):
            return Y, {}
        calls.append(X)
        if len(calls) % steps:
            return Y, {}
        joined = np.concatenate(calls[-steps:])
        return Y, step_of(joined, gamma, beta, state)[1]

    return step


def lite_step(*, training, subtract, eps=EPS):
    """Only the mean subtracted, or only divided by the standard deviation."""

    def step(X, gamma, beta, state):
        mean, var = state["moving_mean"], state["moving_var"]
        after = {}
        if training:
            mean, var = spec.batch_stats(X)
            after = moved(state, mean, var, X[:, 0].size)
        if subtract:
            return spec.normalize(X, mean, np.ones_like(var), gamma, beta, 0), after
        return spec.normalize(X, 0 * mean, var, gamma, beta, eps), after

    return step
