"""Exercise 7: other transforms than standardization, judged by what defines them."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from bn_from_scratch.course.exercises import Answer, report
from bn_from_scratch.spec import EPS

BLOCK, RANK = 3, 2
_DRAWS = torch.Generator().manual_seed(7)
Z = torch.randn(4000, 6, generator=_DRAWS).exp() ** 0.7  # skewed; then correlated
X = 5 + 3 * Z @ (torch.eye(6) + 0.4 * torch.randn(6, 6, generator=_DRAWS))
SCALED = (X - X.mean(0)) / torch.sqrt(X.var(0, correction=0) + EPS)


def check(idea: str, statistics: Answer, transform: Answer) -> bool:
    """`transform(X, *statistics(X), eps)` by its idea, one of IDEAS, on random data."""
    try:
        problems = _check(IDEAS[idea], statistics, transform)
    except Exception as error:
        problems = [f"the call ended in {type(error).__name__}: {error}"]
    return report(problems)


def _check(property_of: Any, statistics: Any, transform: Any) -> list[str] | None:
    values = None if statistics is ... else statistics(X)
    if values is None or values is ... or transform is ...:
        return None
    if not isinstance(values, tuple) or not all(map(torch.is_tensor, values)):
        return [
            f"statistics must return a tuple of tensors, not {type(values).__name__}"
        ]
    leaf = X.clone().requires_grad_()
    Y = transform(leaf, *statistics(leaf), eps=EPS)
    if Y is None or Y is ...:
        return None
    if Y.shape != X.shape or not torch.isfinite(Y).all():
        return [
            f"Y must be finite and of shape {tuple(X.shape)}; it is {tuple(Y.shape)}"
        ]
    problems = property_of(Y.detach())
    part = transform(X[:7], *values, eps=EPS)
    if part.shape != X[:7].shape or not torch.allclose(part, Y[:7], atol=1e-3):
        problems += ["transform looks at the batch: 7 rows come out differently alone"]
    if not Y.requires_grad:
        return [*problems, "no gradient reaches X: something here has no derivative"]
    (dX,) = torch.autograd.grad((Y * torch.sin(9 * Y.detach())).sum(), leaf)
    if not torch.isfinite(dX).all():
        problems += ["the gradient of X is not finite"]
    return problems


def moments(Y: Tensor) -> list[str]:
    """Channels whose mean is not 0 or whose variance is not 1."""
    pairs = zip(Y.mean(0).tolist(), Y.var(0, correction=0).tolist(), strict=True)
    return [
        f"channel {c} has mean {mean:.2f} and variance {var:.2f}, not 0 and 1"
        for c, (mean, var) in enumerate(pairs)
        if abs(mean) > 0.02 or abs(var - 1) > 0.02
    ]


def uniform(Y: Tensor) -> list[str]:
    wanted = torch.linspace(-(3**0.5), 3**0.5, len(Y))[:, None]
    far = (Y.sort(0).values - wanted).abs().amax(0) / 12**0.5
    return moments(Y) or [
        f"channel {c} is not uniform: {(Y[:, c] < 0).float().mean():.0%} is below 0"
        for c in torch.nonzero(far > 0.03).flatten().tolist()
    ]


def white(Y: Tensor, block: int = 6) -> list[str]:
    R = torch.corrcoef(Y.T).triu(1)
    R = R * torch.block_diag(*[torch.ones(block, block)] * (6 // block))
    i, j = divmod(R.abs().argmax().item(), 6)
    far = [f"channels {i} and {j} are still correlated: {R[i, j]:.2f}"]
    return moments(Y) + far * (abs(R[i, j]) > 0.02).item()


def blocks(Y: Tensor) -> list[str]:
    shared = torch.linalg.lstsq(SCALED[:, :BLOCK], Y[:, :BLOCK]).solution
    other = (SCALED[:, :BLOCK] @ shared - Y[:, :BLOCK]).abs().amax(0) > 0.05
    mixed = [f"channel {c} contains channels of the other block" for c in range(BLOCK)]
    return white(Y, BLOCK) + [m for m, bad in zip(mixed, other, strict=True) if bad]


def low_rank(Y: Tensor) -> list[str]:
    before = torch.linalg.eigvalsh(SCALED.T @ SCALED / len(SCALED)).flip(0)
    before[:RANK] = 1
    wanted, found = before.sort().values, torch.linalg.eigvalsh(torch.cov(Y.T))
    if torch.allclose(found, wanted, atol=0.02):
        return []
    found, wanted = (" ".join(f"{v:.2f}" for v in values) for values in (found, wanted))
    return [f"the variances along the directions are {found}, not {wanted}"]


def sparse(Y: Tensor) -> list[str]:
    zero, flipped = (Y == 0).float().mean(0), Y * (X - X.mean(0)) < 0
    problems = [
        f"{share:.0%} of channel {c} are exactly 0; it should be near a half"
        for c, share in enumerate(zero.tolist())
        if not 0.25 < share < 0.75
    ]
    return problems + ["some values have changed their sign"] * bool(flipped.any())


def own(Y: Tensor) -> list[str]:
    same = torch.allclose(Y, SCALED, atol=1e-2)
    return ["this is the standardization of batch norm itself"] * same


IDEAS: dict[str, Callable[[Tensor], list[str]]] = {
    "uniform": uniform,
    "white": white,
    "blocks": blocks,
    "low rank": low_rank,
    "sparse": sparse,
    "own": own,
}
