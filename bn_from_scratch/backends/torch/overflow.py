"""Statistics that overflow: refused where Python may look at them, NaN elsewhere."""

import math

import torch
from torch import Tensor
from torch._C._functorch import peek_interpreter_stack

from bn_from_scratch import checks


def in_range(X: Tensor, var: Tensor) -> Tensor:
    """var [C], if it fits its dtype.  Else ValueError, or NaN where none can be raised.

    X that holds NaN or infinity passes: its statistics are NaN, as everywhere.
    """
    if not is_readable(var):
        return or_nan(var)
    if not math.isfinite(var.sum().item()):  # perhaps: the sum may be what overflows
        if not torch.isfinite(var).all() and torch.isfinite(X).all():
            checks.refuse_overflow(str(var.dtype), X.abs().max().item())
    return var


def or_nan(var: Tensor) -> Tensor:
    """var, with NaN for what overflowed: X by an infinite variance would be 0."""
    return torch.where(torch.isfinite(var), var, torch.nan)


def is_readable(v: Tensor) -> bool:
    """May Python look at the values?

    Not while they are traced, compiled or transformed; nor on a device, which would
    have to be waited for.
    """
    traced = torch.compiler.is_compiling() or torch._C._get_tracing_state() is not None
    if traced or v.device.type != "cpu" or type(v) is not Tensor:
        return False
    modes: int = torch._C._len_torch_dispatch_stack()
    return modes == 0 and peek_interpreter_stack() is None
