"""The check of exercise 4: right answers pass, wrong ones are named."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from bn_from_scratch.course.exercises import exercise_4  # noqa: E402

NOTHING = "Nothing is written yet: replace the `...` above and run this cell again.\n"


def mean_only(X, gamma, beta, *, stop=False, axes=None, std=False):
    axes = axes or [a for a in range(X.ndim) if a != 1]
    mean = X.mean(axes, keepdim=True)
    mean = mean.detach() if stop else mean
    X_hat = X - mean
    if std:
        X_hat = X_hat / torch.sqrt((X_hat**2).mean(axes, keepdim=True) + 0.1)
    return like(gamma, X) * X_hat + like(beta, X)


def var_only(X, gamma, beta, eps, *, stop=False, power=0.5, correction=0, axes=None):
    axes = axes or [a for a in range(X.ndim) if a != 1]
    var = X.var(axes, correction=correction, keepdim=True)
    var = var.detach() if stop else var
    return like(gamma, X) * X / (var + eps) ** power + like(beta, X)


def by_channel(X, gamma, beta, eps):
    channels = []
    for c, x in enumerate(X.unbind(1)):
        centred = x - x.sum() / x.numel()
        std = torch.sqrt((centred * centred).sum() / x.numel() + eps)
        channels.append(gamma[c] * (x / std) + beta[c])
    return torch.stack(channels, 1)


def mean_square(X, gamma, beta, eps):
    square = (X**2).mean([a for a in range(X.ndim) if a != 1], keepdim=True)
    return like(gamma, X) * X / torch.sqrt(square + eps) + like(beta, X)


def like(v, X):
    return v.reshape(1, -1, *[1] * (X.ndim - 2))


MEAN_ONLY = {
    lambda X, g, b: like(g, X) * X + like(b, X): "the mean is still there",
    lambda X, g, b: mean_only(X, g, b, stop=True): (
        "no gradient passes through the mean"
    ),
    lambda X, g, b: mean_only(X, g, b, std=True): (
        "it divides by the standard deviation, too"
    ),
    lambda X, g, b: mean_only(X, g, b, axes=[0]): "each pixel has its own mean",
    lambda X, g, b: mean_only(X, g, b, axes=list(range(X.ndim))): (
        "all channels have the same mean"
    ),
    lambda X, g, b: mean_only(X, g**0, 0 * b): "gamma and beta are missing",
    lambda X, g, b: mean_only(like(g, X) * X + like(b, X), g**0, 0 * b): (
        "beta is missing, or went with the mean"
    ),
    lambda X, g, b: mean_only(X, b, g): "gamma and beta are swapped",
    lambda X, g, b: mean_only(X, 2 * g, b): "Y of X [N, C] is not right",
    lambda X, g, b: mean_only(X if X.ndim == 2 else 2 * X, g, b): (
        "Y of X [N, C, H, W] is not right"
    ),
    lambda X, g, b: mean_only(X.detach(), g, b): (
        "the call ended in RuntimeError: element 0 of tensors does not require grad "
        "and does not have a grad_fn"
    ),
    lambda X, g, b: np.asarray(X): (
        "the call ended in RuntimeError: Can't call numpy() on Tensor that requires "
        "grad. Use tensor.detach().numpy() instead."
    ),
}
VAR_ONLY = {
    lambda X, g, b, eps: mean_only(X, g, b, std=True): "the mean is gone; it must stay",
    lambda *a: var_only(*a, power=1): "it divides by the variance, not by its root",
    lambda X, g, b, eps: var_only(X, g, b, 0): "eps is missing",
    mean_square: "the variance is taken around 0",
    lambda *a: var_only(*a, stop=True): "no gradient passes through the variance",
    lambda *a: var_only(*a, correction=1): ("the variance is unbiased"),
    lambda *a: var_only(*a, axes=[0]): "each pixel has its own variance",
    lambda X, g, b, eps: var_only(X, b, g, eps): "gamma and beta are swapped",
    lambda X, g, b, eps: (
        like(g, X)
        * X
        / (X.var([0, *range(2, X.ndim)], correction=0, keepdim=True).sqrt() + eps)
        + like(b, X)
    ): "eps is outside the root",
    lambda X, g, b: X: (
        "the call ended in TypeError: <lambda>() takes 3 positional arguments but 4 "
        "were given"
    ),
}


def verdict(message):
    return f"Not yet: {message}\n" if message else "Right.\n"


@pytest.mark.parametrize(
    "check, answer",
    [
        (exercise_4.check_mean, mean_only),
        (exercise_4.check_var, var_only),
        (exercise_4.check_var, by_channel),
    ],
)
def test_right_answers(check, answer, capsys):
    assert check(answer)
    assert capsys.readouterr().out == verdict("")


@pytest.mark.parametrize("answer", MEAN_ONLY)
def test_wrong_mean_only(answer, capsys):
    assert not exercise_4.check_mean(answer)
    assert capsys.readouterr().out == verdict(MEAN_ONLY[answer])


@pytest.mark.parametrize("answer", VAR_ONLY)
def test_wrong_var_only(answer, capsys):
    assert not exercise_4.check_var(answer)
    assert capsys.readouterr().out == verdict(VAR_ONLY[answer])


@pytest.mark.parametrize("check", [exercise_4.check_mean, exercise_4.check_var])
@pytest.mark.parametrize("answer", [..., lambda *given: None])
def test_nothing_written(check, answer, capsys):
    assert not check(answer)
    assert capsys.readouterr().out == NOTHING
