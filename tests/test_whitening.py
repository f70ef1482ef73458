"""Whitening in the course: covariances, gradients, prediction, the neutral settings."""

import functools

import pytest

torch = pytest.importorskip("torch")

from bn_from_scratch import torch as bn  # noqa: E402
from bn_from_scratch.course import experiments, whitening  # noqa: E402
from bn_from_scratch.course.whitening import mean_cov, mean_var, whiten  # noqa: E402

EPS = 1e-5


def rows(n=500, C=6, seed=0):
    """Correlated channels, far from mean 0 and variance 1.  -> float64 [n, C]."""
    draws = torch.Generator().manual_seed(seed)
    mix = torch.randn(C, C, generator=draws, dtype=torch.float64)
    return 5 + 3 * torch.randn(n, C, generator=draws, dtype=torch.float64) @ mix


def cov(Y):
    return torch.cov(Y.T, correction=0)


def blocks(C, block):
    return torch.block_diag(*[torch.ones(block, block)] * (C // block)).bool()


@pytest.mark.parametrize("block", [1, 2, 3, 6, None])
def test_the_covariance_within_a_block_is_the_identity(block):
    X = rows()
    Y = whiten(X, *mean_cov(X, block), eps=0)
    inside = blocks(6, block or 6)
    assert (cov(Y) - torch.eye(6))[inside].abs().max() < 1e-12
    assert Y.mean(0).abs().max() < 1e-12
    if block not in (6, None):  # nothing was promised outside
        assert cov(Y)[~inside].abs().max() > 0.1


def test_the_leading_directions_are_white_and_the_rest_is_standardized():
    X = rows()
    before = torch.linalg.eigvalsh(cov(whiten(X, *mean_cov(X), eps=0, rank=0)))
    after = torch.linalg.eigvalsh(cov(whiten(X, *mean_cov(X), eps=0, rank=2)))
    expected = torch.cat([before[:4], torch.ones(2)]).sort().values
    torch.testing.assert_close(after, expected, rtol=1e-12, atol=1e-12)


def test_all_directions_are_full_whitening():
    X = rows()
    full, all_six = (whiten(X, *mean_cov(X), eps=EPS, rank=r) for r in (None, 6))
    assert torch.equal(full, all_six)


@pytest.mark.parametrize("pair", ["blocks of 1", "rank 0", "mean_var"])
@pytest.mark.parametrize("shape", [(40, 6), (8, 6, 5, 4)])
def test_the_neutral_setting_is_batch_norm(pair, shape):
    functions = {
        "blocks of 1": (functools.partial(mean_cov, block=1), whiten),
        "rank 0": (mean_cov, functools.partial(whiten, rank=0)),
        "mean_var": (mean_var, whitening.standardize),
    }
    layer = whitening.norm(*functions[pair])(6, num_dims=len(shape)).double()
    torch.nn.init.normal_(layer.gamma), torch.nn.init.normal_(layer.beta)
    ours = bn.BatchNorm(6, len(shape), dtype="float64")
    ours.load_state_dict({"gamma": layer.gamma, "beta": layer.beta}, strict=False)
    X = rows(40 if len(shape) == 2 else 160).reshape(-1, *shape[2:], 6)
    X = X.movedim(-1, 1).clone().requires_grad_()
    dY = torch.randn(X.shape, dtype=torch.float64)
    Y, expected = layer(X), ours(X)
    torch.testing.assert_close(Y, expected, rtol=1e-12, atol=1e-12)
    (dX,), (dX_expected,) = (torch.autograd.grad(v, X, dY) for v in (Y, expected))
    torch.testing.assert_close(dX, dX_expected, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("rank", [1, 3, None])
@pytest.mark.parametrize("block", [2, 6])
def test_the_gradient_is_that_of_finite_differences(block, rank):
    def f(X):
        return whiten(X, *mean_cov(X, block), eps=EPS, rank=rank)

    assert torch.autograd.gradcheck(f, rows(12).requires_grad_())


@pytest.mark.parametrize("rank", [1, None])
def test_the_gradient_is_finite_at_equal_eigenvalues(rank):
    P = torch.eye(4, dtype=torch.float64)[None].requires_grad_()
    W = whitening.InverseRoot.apply(P, 4 if rank is None else rank)
    (dP,) = torch.autograd.grad(W, P, torch.ones_like(W))
    assert torch.isfinite(dP).all()
    if rank is None:  # d P^(-1/2) = -dP / 2 at the identity
        torch.testing.assert_close(dP, -torch.ones_like(dP) / 2)


def test_the_gradient_is_finite_with_fewer_rows_than_channels():
    X = rows(4).float().requires_grad_()
    Y = whiten(X, *mean_cov(X), eps=EPS)
    (dX,) = torch.autograd.grad(Y, X, torch.ones_like(Y).cumsum(0))
    assert torch.isfinite(Y).all() and torch.isfinite(dX).all()


def test_what_is_not_finite_stays_so_without_an_exception():
    X = rows(8).index_fill(0, torch.tensor([2]), torch.inf)
    assert torch.isnan(whiten(X, *mean_cov(X), eps=EPS)).any()


@pytest.mark.parametrize("block", [None, 3])
def test_prediction_at_the_fixed_point_is_the_training_transform(block):
    statistics = functools.partial(mean_cov, block=block)
    layer = whitening.norm(statistics, whiten, momentum=0.5)(6, num_dims=4).double()
    X = rows(400).reshape(10, 8, 5, 6).movedim(-1, 1)
    for _ in range(60):  # 2^-60 of what it began with
        Y = layer(X)
    torch.testing.assert_close(layer.eval()(X), Y, rtol=1e-10, atol=1e-10)


def test_prediction_depends_on_no_other_row():
    layer = whitening.norm(mean_cov, whiten)(6, num_dims=2).double().eval()
    X = rows(8)
    torch.testing.assert_close(layer(X)[:3], layer(X[:3]), rtol=1e-14, atol=1e-14)


def test_a_lenet_learns_with_it_and_keeps_its_state(garments):
    model = experiments.network(whitening.norm(mean_cov, whiten), where=(1, 2))
    run = experiments.train(model, garments, batch_size=64)
    assert run.loss[-1] < run.loss[0]
    again = experiments.network(whitening.norm(mean_cov, whiten), where=(1, 2), seed=1)
    again.load_state_dict(model.state_dict())
    X = torch.rand(5, 1, 28, 28)
    assert torch.equal(model.eval()(X), again.eval()(X))
