"""Exercise 7 in the hands of a student: right answers pass, wrong ones are named."""

import functools

import pytest

torch = pytest.importorskip("torch")

from bn_from_scratch.course.exercises import exercise_7  # noqa: E402
from bn_from_scratch.course.whitening import (  # noqa: E402
    mean_cov,
    mean_var,
    standardize,
    whiten,
)

NOTHING = "Nothing is written yet: replace the `...` above and run this cell again.\n"
LEVELS = torch.linspace(0, 1, 65)


def quantiles(X):
    return (torch.quantile(X, LEVELS, dim=0),)


def uniform(X, q, eps):
    last = len(q) - 1
    i = torch.searchsorted(q.T.contiguous(), X.T.contiguous()).T.clamp(1, last)
    low, high = q.gather(0, i - 1), q.gather(0, i)
    share = ((X - low) / (high - low + eps)).clamp(0, 1)
    return ((i - 1 + share) / last - 0.5) * 12**0.5


def from_0_to_1(X, q, eps):
    return uniform(X, q, eps) / 12**0.5 + 0.5


def gaussian(X, mean, var, eps):
    return (torch.special.ndtr(standardize(X, mean, var, eps)) - 0.5) * 12**0.5


def ranks(X, q, eps):
    return (X.argsort(0).argsort(0) / (len(X) - 1) - 0.5) * 12**0.5


def soft(X, mean, var, eps):
    return torch.nn.functional.softshrink(standardize(X, mean, var, eps), 0.5)


def cholesky(X, mean, cov, eps):
    L = torch.linalg.cholesky(cov[0] + eps * torch.eye(6))
    return torch.linalg.solve_triangular(L, (X - mean).T, upper=False).T


def mean_abs(X):
    mean = X.mean(0)
    return mean, (X - mean).abs().mean(0)


def by_abs(X, mean, size, eps):
    return (X - mean) / (size + eps)


def printed(capsys, *answer):
    exercise_7.check(*answer)
    return capsys.readouterr().out.splitlines()


RIGHT = {
    "uniform": (quantiles, uniform),
    "white": (mean_cov, whiten),
    "white ": (mean_cov, cholesky),
    "blocks": (functools.partial(mean_cov, block=3), whiten),
    "low rank": (mean_cov, functools.partial(whiten, rank=2)),
    "sparse": (mean_var, soft),
    "own": (mean_abs, by_abs),
}


@pytest.mark.parametrize("idea", RIGHT)
def test_a_right_answer_passes(capsys, idea):
    assert printed(capsys, idea.strip(), *RIGHT[idea]) == ["Right."]


@pytest.mark.parametrize("answer", [..., lambda *_, **__: ..., lambda *_, **__: None])
@pytest.mark.parametrize("first", [False, True])
def test_what_is_not_written_is_said(capsys, answer, first):
    statistics, transform = (answer, answer) if first else (mean_var, answer)
    exercise_7.check("white", statistics, transform)
    assert capsys.readouterr().out == NOTHING


WRONG = {
    "uniform from 0 to 1": (
        "uniform",
        quantiles,
        from_0_to_1,
        "channel 0 has mean 0.50 and variance 0.08, not 0 and 1",
    ),
    "ranks": (
        "uniform",
        quantiles,
        ranks,
        "no gradient reaches X: something here has no derivative",
    ),
    "the batch in the transform": (
        "uniform",
        quantiles,
        lambda X, q, eps: uniform(X, *quantiles(X), eps),
        "transform looks at the batch: 7 rows come out differently alone",
    ),
    "the distribution function of a Gaussian": (
        "uniform",
        mean_var,
        gaussian,
        "channel 0 has mean -0.02 and variance 0.83, not 0 and 1",
    ),
    "only standardized": (
        "white",
        mean_var,
        standardize,
        "channels 2 and 4 are still correlated: 0.77",
    ),
    "not centred": (
        "white",
        mean_cov,
        lambda X, mean, cov, eps: whiten(X, 0 * mean, cov, eps),
        "channel 0 has mean 3.26 and variance 1.00, not 0 and 1",
    ),
    "blocks of 2": (
        "blocks",
        functools.partial(mean_cov, block=2),
        whiten,
        "channel 2 contains channels of the other block",
    ),
    "all channels in one block": (
        "blocks",
        mean_cov,
        whiten,
        "channel 0 contains channels of the other block",
    ),
    "rank 3": (
        "low rank",
        mean_cov,
        functools.partial(whiten, rank=3),
        "the variances along the directions are 0.03 0.13 0.22 1.00 1.00 1.00, "
        "not 0.03 0.13 0.22 0.92 1.00 1.00",
    ),
    "nothing is zero": (
        "sparse",
        mean_var,
        standardize,
        "0% of channel 0 are exactly 0; it should be near a half",
    ),
    "the wrong sign": (
        "sparse",
        mean_var,
        lambda *args, eps: -soft(*args, eps),
        "some values have changed their sign",
    ),
    "batch norm": (
        "own",
        mean_var,
        standardize,
        "this is the standardization of batch norm itself",
    ),
    "no tuple": (
        "own",
        lambda X: X.mean(0),
        standardize,
        "statistics must return a tuple of tensors, not Tensor",
    ),
    "another shape": (
        "own",
        mean_var,
        lambda X, mean, var, eps: X[:, 0],
        "Y must be finite and of shape (4000, 6); it is (4000,)",
    ),
    "an error": (
        "own",
        mean_var,
        lambda X, mean, var, eps: {}["x"],
        "the call ended in KeyError: 'x'",
    ),
    "an infinite gradient": (
        "own",
        mean_var,
        lambda X, mean, var, eps: (X - X.detach()).sqrt() + X,
        "the gradient of X is not finite",
    ),
}


@pytest.mark.parametrize(
    "idea, statistics, transform, message", WRONG.values(), ids=WRONG
)
def test_a_wrong_answer_is_named(capsys, idea, statistics, transform, message):
    lines = printed(capsys, idea, statistics, transform)
    assert f"Not yet: {message}" in lines
