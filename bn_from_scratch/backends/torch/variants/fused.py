"""Fast batch normalization: few walks through memory, and a written-out gradient.

Left to itself, every operation of the core walks through memory on its own, and
autograd keeps what many of them made.  Here the backward pass is the closed form
(7)-(10), which needs X and a few numbers per channel; mean and variance come from one
walk; and the compiler of PyTorch joins the operations that are left.  Derivatives that
are not in (7)-(10) are left to the core.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._C._functorch import is_legacy_batchedtensor, peek_interpreter_stack
from torch.autograd import forward_ad
from torch.autograd.function import Function

from bn_from_scratch import spec
from bn_from_scratch.backends.torch.batch_norm import (
    CHANNEL_AXIS,
    batch_stats,
    normalize,
    promote,
)
from bn_from_scratch.backends.torch.layer import BatchNorm
from bn_from_scratch.backends.torch.overflow import in_range, is_readable, or_nan
from bn_from_scratch.spec import Axis

SAMPLE = 16  # one example in 16 gives the rough mean
COMPILE_FROM = 2**16  # values in X; below, a compiled call costs more than it saves


def fused_batch_norm(
    X: Tensor, gamma: Tensor, beta: Tensor, eps: float, axis: Axis = CHANNEL_AXIS
) -> tuple[Tensor, Tensor, Tensor]:
    """-> Y like X [N, C, *]; mean, var [C], which carry no gradient."""
    if is_transformed(X, gamma, beta):
        return core(X, gamma, beta, eps, axis)
    order, sizes = three_axes(X.shape, axis)
    moved = X.permute(order)
    X_3d, gamma, beta = moved.reshape(sizes), gamma.flatten(), beta.flatten()
    Y, mean, var = ClosedForm.apply(X_3d, gamma, beta, eps)
    Y = Y.reshape(moved.shape).permute([order.index(a) for a in range(X.ndim)])
    shape = spec.stats_shape(X.shape, axis)
    return Y, mean.reshape(shape), var.reshape(shape)


def three_axes(shape: Sequence[int], axis: Axis) -> tuple[tuple[int, ...], list[int]]:
    """Order and sizes of X as [A, C, B]: a view, if the kept axes are neighbours."""
    kept, reduced = (f(len(shape), axis) for f in (spec.kept_axes, spec.reduce_axes))
    before = tuple(a for a in reduced if a < kept[0])
    after = tuple(a for a in reduced if a > kept[0])
    sizes = [math.prod([shape[a] for a in axes]) for axes in (before, kept, after)]
    return before + kept + after, sizes


class ClosedForm(Function):
    @staticmethod
    def forward(
        ctx: Any, X: Tensor, gamma: Tensor, beta: Tensor, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        detached = X.detach(), gamma.detach(), beta.detach()
        Y, mean, var, stats = run(forward, *detached, eps)
        ctx.save_for_backward(X, gamma, stats)
        ctx.mark_non_differentiable(mean, var)
        ctx.eps = eps
        return Y, mean, var

    @staticmethod
    def backward(ctx: Any, dY: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        X, gamma, stats = ctx.saved_tensors
        if is_differentiated_again(dY):
            wanted = ctx.needs_input_grad[:3]
            return *core_backward(X, gamma, dY, ctx.eps, wanted), None
        return *run(backward, X.detach(), gamma.detach(), dY.detach(), stats), None


# --- Back to the core ----------------------------------------------------------------


def is_transformed(*tensors: Tensor) -> bool:
    """Are we inside of a torch.func transform, or is one of these a dual number?"""
    if peek_interpreter_stack() is not None:
        return True
    if torch.compiler.is_compiling():
        return False
    duals = (forward_ad.unpack_dual(v).tangent for v in tensors)
    return any(tangent is not None for tangent in duals)


def is_differentiated_again(dY: Tensor) -> bool:
    """Does `backward` run for a second derivative, or for many dY at a time?"""
    if torch.compiler.is_compiling():
        return False
    return torch.is_grad_enabled() or is_legacy_batchedtensor(dY)


def core(
    X: Tensor, gamma: Tensor, beta: Tensor, eps: float, axis: Axis
) -> tuple[Tensor, Tensor, Tensor]:
    """What `fused_batch_norm` returns, by the functions of the core."""
    mean, var = batch_stats(X, axis)
    Y = normalize(X, mean, var, gamma, beta, eps, axis)
    return Y, mean.detach(), var.detach()


def core_backward(
    X: Tensor, gamma: Tensor, dY: Tensor, eps: float, wanted: Sequence[bool]
) -> tuple[Tensor | None, ...]:
    """-> dX, dgamma, dbeta, those that are wanted; they have derivatives, too."""
    again = torch.is_grad_enabled()
    with torch.enable_grad():
        beta = torch.zeros_like(gamma, requires_grad=True)
        Y, *_ = core(X, gamma, beta, eps, CHANNEL_AXIS)
        pairs = zip((X, gamma, beta), wanted, strict=True)
        asked = [v for v, want in pairs if want]
        found = iter(torch.autograd.grad(Y, asked, dY, create_graph=again))
    return tuple(next(found) if want else None for want in wanted)


# --- The closed form: X is [A, C, B] -------------------------------------------------


def forward(
    X: Tensor, gamma: Tensor, beta: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """-> Y, mean, var, and the numbers per channel that `backward` needs.

    The mean is subtracted in two parts, so the output is exact however large it is:
    `rough`, that of a sample, and `rest`, what is left.  In any data `rest` is below
    sqrt(SAMPLE) standard deviations, so (2) loses 16 rounding errors at the worst.
    """
    rough = channel_mean(promote(X[::SAMPLE]))
    D = promote(X) - rough[:, None]
    rest = channel_mean(D)  # (1)
    var = (channel_mean(D * D) - rest * rest).clamp(min=0)  # (2)
    var = var if is_readable(var) else or_nan(var)
    inv_std = torch.rsqrt(var + eps)
    scale = gamma * inv_std
    Y = scale[:, None] * D + (beta - scale * rest)[:, None]  # (3) (4)
    return Y.to(X.dtype), rough + rest, var, torch.stack((rough, rest, inv_std))


def backward(
    X: Tensor, gamma: Tensor, dY: Tensor, stats: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """-> dX, dgamma, dbeta.  X_hat is (D - rest) * inv_std, and is never stored."""
    rough, rest, inv_std = stats
    dtype, dY, D = X.dtype, promote(dY), promote(X) - rough[:, None]
    n = X.shape[0] * X.shape[2]
    mean_dY = channel_mean(dY)
    mean_dY_X_hat = inv_std * (channel_mean(dY * D) - rest * mean_dY)
    dbeta, dgamma = n * mean_dY, n * mean_dY_X_hat  # (7) (8)
    scale, slope = gamma * inv_std, inv_std * mean_dY_X_hat
    shift = mean_dY - slope * rest
    dX = scale[:, None] * (dY - slope[:, None] * D - shift[:, None])  # (9) (10)
    return dX.to(dtype), dgamma.to(gamma.dtype), dbeta.to(gamma.dtype)


def channel_mean(X: Tensor) -> Tensor:
    """Mean of each channel, of several short sums or in float64.  [A, C, B] -> [C].

    A compiled sum over an axis that is not the last in memory adds one value after the
    other: of squares at a mean of 1e4, three thousand of them are off by 3e-6.
    """
    dtype, sixteenths = X.dtype, X.shape[2] % 16 == 0
    if X.stride(2) > 1:
        X = X.unflatten(2, (16, -1)).mean(3) if sixteenths else X.double()
    return X.mean(2).mean(0, dtype=torch.float64).to(dtype)


# --- Compiling -----------------------------------------------------------------------


def run(function: Callable, X: Tensor, *args: Any) -> Any:
    """Call the function, compiled if X is large.  A compiler around us does it all."""
    if X.numel() < COMPILE_FROM or torch.compiler.is_compiling():
        return function(X, *args)
    return compiled(function)(X, *args)


@functools.cache
def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function as one kernel for all shapes; itself where no compiler works."""
    kernel = None

    def call(*args: Any) -> Any:
        nonlocal kernel
        try:
            kernel = kernel or torch.compile(function, dynamic=True)
            return kernel(*args)
        except Exception:  # no C++ compiler, or whatever torch makes of that
            result = function(*args)  # raises as well if it was the arguments
            kernel = function
            return result

    return call


class FusedBatchNorm(BatchNorm):
    """Batch norm with the closed-form backward: the core's numbers, faster.

    It keeps X and a few numbers per channel for the backward pass.  The first call on a
    large X compiles: seconds, and up to a minute the first time on a machine.

    >>> layer = bn.FusedBatchNorm(num_features=3)
    >>> layer(torch.rand(8, 3, 4, 4)).shape
    torch.Size([8, 3, 4, 4])
    """

    variant = "fused"

    def train_forward(self, X: Tensor, mask: Tensor | None, update: bool) -> Tensor:
        if mask is not None or 0 in X.shape:
            return super().train_forward(X, mask, update)
        moving = self.moving_mean, self.moving_var
        *_, gamma, beta = self.operands(*moving, training=True)
        Y, mean, var = fused_batch_norm(X, gamma, beta, self.eps, self.axis)
        var = in_range(X, var)
        if update:
            self.move(mean, var, spec.values_per_channel(X.shape, self.axis))
        return Y
