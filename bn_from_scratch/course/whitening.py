"""Other statistics, other transforms: what could stand where standardization stands.

A normalization is two functions.  `statistics(X)` describes a batch, in tensors that
may be averaged over batches; `transform(X, *statistics, eps)` maps each row, and knows
of the batch what the statistics say.  X is [n, C]: n values of each of C channels.
Training transforms with the statistics of the batch, prediction with their moving
averages (5) (6).  Batch norm is the pair `mean_var`, `standardize`.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from bn_from_scratch.backends.torch.batch_norm import batch_stats, normalize
from bn_from_scratch.spec import EPS, MOMENTUM

Statistics = Callable[[Tensor], tuple[Tensor, ...]]
Transform = Callable[..., Tensor]


class Normalization(nn.Module):
    """A pair of functions as a layer, with gamma and beta.  X [N, C, *] -> same.

    >>> layer = Normalization(6, mean_var, standardize)
    >>> layer(torch.rand(8, 6, 4, 4)).shape
    torch.Size([8, 6, 4, 4])
    """

    def __init__(
        self,
        num_features: int,
        statistics: Statistics,
        transform: Transform,
        eps: float = EPS,
        momentum: float = MOMENTUM,
    ) -> None:
        super().__init__()
        self.statistics = statistics
        self.transform = transform
        self.eps = eps
        self.momentum = momentum
        self.gamma: nn.Parameter = nn.Parameter(torch.ones(num_features))
        self.beta: nn.Parameter = nn.Parameter(torch.zeros(num_features))
        draws = torch.Generator().manual_seed(0)  # statistics of unrelated channels
        sample = torch.randn(1024, num_features, generator=draws)
        for i, v in enumerate(statistics(sample)):
            self.register_buffer(f"moving_{i}", v)

    def moving(self) -> tuple[Tensor, ...]:
        """The moving averages, in the order of `statistics`."""
        return tuple(v for k, v in self.named_buffers() if k.startswith("moving_"))

    def forward(self, X: Tensor) -> Tensor:
        rows = X.transpose(0, 1).flatten(1).T  # [N, C, *] -> [n, C]
        values = self.statistics(rows) if self.training else self.moving()
        Y = self.transform(rows, *values, eps=self.eps) * self.gamma + self.beta
        if self.training:
            for old, new in zip(self.moving(), values, strict=True):
                old.lerp_(new.detach(), self.momentum)  # (5) (6)
        back = X.shape[1], X.shape[0], *X.shape[2:]
        return Y.T.reshape(back).transpose(0, 1)


def norm(
    statistics: Statistics, transform: Transform, **options: Any
) -> Callable[[int, int], Normalization]:
    """The `norm(num_features, num_dims)` that networks are built with."""
    pair = statistics, transform
    return lambda num_features, num_dims: Normalization(num_features, *pair, **options)


def mean_var(X: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of each channel: (1) and (2).  [n, C] -> [C], [C]."""
    return batch_stats(X)


def standardize(X: Tensor, mean: Tensor, var: Tensor, eps: float) -> Tensor:
    """Batch norm without gamma and beta: (3).  [n, C], [C], [C] -> [n, C]."""
    return normalize(X, mean, var, torch.ones_like(var), torch.zeros_like(mean), eps)


def mean_cov(X: Tensor, block: int | None = None) -> tuple[Tensor, Tensor]:
    """Mean, and the covariance within each block of channels; None is one block.

    [n, C] -> [C], [C / block, block, block].  Biased, as (2), which is its diagonal.
    """
    block = block or X.shape[1]
    mean = batch_stats(X)[0]
    parts = (X - mean).reshape(len(X), -1, block).transpose(0, 1)  # [G, n, block]
    return mean, parts.mT @ parts / len(X)


def whiten(
    X: Tensor, mean: Tensor, cov: Tensor, eps: float, rank: int | None = None
) -> Tensor:
    """Standardize, then undo the correlations within each block.  [n, C] -> [n, C].

    With V the variances on the diagonal of cov + eps I and P its correlation matrix,
    Y = (X - mean) V^(-1/2) P^(-1/2): of all whitened versions of X the one that is most
    correlated with X, channel by channel (Kessy, Lewin and Strimmer 2018, "ZCA-cor").
    `rank`: only that many leading directions of P.  Blocks of 1, or rank 0: batch norm.
    Huang et al. 2018, "Decorrelated Batch Normalization", whiten with cov^(-1/2).
    """
    cov = cov + eps * torch.eye(cov.shape[-1], dtype=cov.dtype, device=cov.device)
    std = torch.diagonal(cov, dim1=-2, dim2=-1).sqrt()  # [G, block]
    P = cov / (std[:, :, None] * std[:, None, :])
    W = InverseRoot.apply(P, P.shape[-1] if rank is None else rank)
    parts = (X - mean).reshape(len(X), *std.shape) / std
    return torch.einsum("ngi,gij->ngj", parts, W).reshape(X.shape)


class InverseRoot(torch.autograd.Function):
    """P^(-1/2) of symmetric [G, b, b] in the `rank` leading directions, else identity.

    The derivative of f(P) = U f(l) U' in the direction D is U (K * U' D U) U', where
    K_ij = (f(l_i) - f(l_j)) / (l_i - l_j) (Daleckii and Krein; Higham 2008, "Functions
    of Matrices", section 3.2).  For f = l^(-1/2) the difference cancels, so that equal
    eigenvalues, at which the gradient of `eigh` is not finite, do no harm here.

    >>> InverseRoot.apply(torch.diag(torch.tensor([4.0, 1.0]))[None], 2)
    tensor([[[0.5000, 0.0000],
             [0.0000, 1.0000]]])
    """

    @staticmethod
    def forward(ctx: Any, P: Tensor, rank: int) -> Tensor:
        if not torch.isfinite(P).all():  # a run that diverged may say so by itself
            return torch.full_like(P, torch.nan)
        values, U = torch.linalg.eigh(P)  # ascending
        root = values.clamp(min=torch.finfo(P.dtype).eps).sqrt()
        leads = torch.arange(P.shape[-1], device=P.device) >= P.shape[-1] - rank
        ctx.save_for_backward(values, root, leads, U)
        return U * torch.where(leads, 1 / root, 1)[..., None, :] @ U.mT

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        values, root, leads, U = ctx.saved_tensors
        a, b = root[..., :, None], root[..., None, :]
        both = -1 / (a * b * (a + b))
        f = torch.where(leads, 1 / root, 1)
        gap = values[..., :, None] - values[..., None, :]
        gap = torch.copysign(gap.abs().clamp(min=1e-3), gap)  # f jumps where rank cuts
        others = (f[..., :, None] - f[..., None, :]) / gap
        K = torch.where(leads[:, None] & leads, both, others)
        grad = U.mT @ (grad + grad.mT) / 2 @ U
        return U @ (K * grad) @ U.mT, None
