"""Exercise 4: batch norm that only removes the mean, or only divides by the std."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from bn_from_scratch import torch as bn
from bn_from_scratch.course.exercises import Answer, attempt, report

Formula = Callable[[Tensor, Tensor, Tensor], Tensor]
EPS = 0.1  # large, so that its place shows
X4 = torch.randn(6, 3, 4, 5, generator=torch.Generator().manual_seed(0)).double()
X4 = X4 * torch.tensor([[[1.0]], [[2.0]], [[3.0]]]) + torch.arange(5)
GAMMA, BETA = torch.tensor([[0.5, -2.0, 1.5], [1.0, 3.0, -4.0]]).double()
MEAN_ONLY: dict[
    str, Formula
] = {  # a mistake, and the X_hat that it makes of X, the mean and the variance
    "": lambda X, m, v: X - m,
    "the mean is still there": lambda X, m, v: X,
    "no gradient passes through the mean": lambda X, m, v: X - m.detach(),
    "it divides by the standard deviation, too": lambda X, m, v: (X - m) / std(v),
    "each pixel has its own mean": lambda X, m, v: X - X.mean(0),
    "all channels have the same mean": lambda X, m, v: X - X.mean(),
}
VAR_ONLY: dict[str, Formula] = {
    "": lambda X, m, v: X / std(v),
    "the mean is gone; it must stay": lambda X, m, v: (X - m) / std(v),
    "it divides by the variance, not by its root": lambda X, m, v: X / (v + EPS),
    "eps is outside the root": lambda X, m, v: X / (v.sqrt() + EPS),
    "eps is missing": lambda X, m, v: X / v.sqrt(),
    "the variance is taken around 0": lambda X, m, v: X / std(v + m**2),
    "no gradient passes through the variance": lambda X, m, v: X / std(v.detach()),
    "the variance is unbiased": lambda X, m, v: X / std(v / (1 - 3 / X.numel())),
    "each pixel has its own variance": lambda X, m, v: X / std(X.var(0, correction=0)),
}
AFFINE: dict[str, Formula] = {  # what becomes of the right X_hat
    "": lambda X_hat, g, b: g * X_hat + b,
    "gamma and beta are missing": lambda X_hat, g, b: X_hat,
    "beta is missing, or went with the mean": lambda X_hat, g, b: g * X_hat,
    "gamma and beta are swapped": lambda X_hat, g, b: b * X_hat + g,
}


def check_mean(mean_only: Answer) -> bool:
    """`mean_only(X, gamma, beta)` of X [N, C, *], in training mode."""
    return judge(mean_only, bn.MeanOnlyBatchNorm, MEAN_ONLY)


def check_var(var_only: Answer) -> bool:
    """`var_only(X, gamma, beta, eps)` of X [N, C, *], in training mode."""
    return judge(var_only, bn.VarOnlyBatchNorm, VAR_ONLY, EPS)


def judge(
    function: Answer, variant: Any, mistakes: dict[str, Formula], *eps: float
) -> bool:
    """Compare with the layer of the package, then with what each mistake computes."""
    ask = function if function is ... else lambda X: function(X, GAMMA, BETA, *eps)
    given, problems = attempt(results, ask)
    if given is None:
        return report(problems or None)
    layer = variant(3, eps=EPS, dtype="float64")
    layer.load_state_dict({"gamma": GAMMA, "beta": BETA}, strict=False)
    made = {m: (X_hat, AFFINE[""]) for m, X_hat in mistakes.items()}
    made |= {m: (mistakes[""], affine) for m, affine in AFFINE.items() if m}
    made = {m: results(lambda X, how=how: compute(X, *how)) for m, how in made.items()}
    made[""] = results(layer)
    found = [m for m, v in made.items() if all(map(torch.allclose, given, v))]
    names = "Y of X [N, C]", "its gradient", "Y of X [N, C, H, W]", "its gradient"
    right = map(torch.allclose, given, made[""])
    unknown = [
        f"{name} is not right" for name, ok in zip(names, right, strict=True) if not ok
    ]
    return report([m for m in (found or unknown)[:1] if m])


def results(function: Answer) -> Any:
    """Y and the gradient of X, of both shapes; None if the function returns nothing."""
    found = []
    for X in (X4[:, :, 0, 0], X4) if function is not ... else ():
        leaf = X.clone().requires_grad_()
        if (Y := function(leaf)) is None:
            return None
        found += [Y.detach(), *torch.autograd.grad(Y, leaf, X.sin())]
    return found or None


def compute(X: Tensor, X_hat: Formula, affine: Formula) -> Tensor:
    axes, shape = [0, 2, 3][: X.ndim - 1], [3, 1, 1][: X.ndim - 1]
    mean, var = X.mean(axes), X.var(axes, correction=0)
    mean, var, gamma, beta = (v.view(shape) for v in (mean, var, GAMMA, BETA))
    return affine(X_hat(X, mean, var), gamma, beta)


def std(var: Tensor) -> Tensor:
    return torch.sqrt(var + EPS)
