"""Parameters and statistics in float32 at least, whatever a model is cast to."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy


class AtLeastFloat32(nn.Module):
    """A module of which no cast, and no file, makes 16 bits.

    `.half()`, `.bfloat16()` and `.to(dtype)`, of it or of a model that holds it, stop
    at float32: a variance above 65,504 is no float16.
    """

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        """What every cast and every move to a device calls."""

        def cast(v: Tensor) -> Tensor:
            lazy = is_lazy(v)  # PyTorch casts one to some dtypes, and raises at others
            new = fn(torch.empty(0, dtype=v.dtype, device=v.device) if lazy else v)
            return v.to(new.device, wider(new.dtype)) if lazy or is_narrow(new) else new

        return super()._apply(cast, recurse)

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any
    ) -> None:
        """`load_state_dict(assign=True)` would put in the tensors as they are."""
        for name in (*self._parameters, *self._buffers):
            v = state_dict.get(prefix + name)
            if isinstance(v, Tensor) and is_narrow(v):
                state_dict[prefix + name] = v.to(wider(v.dtype))
        super()._load_from_state_dict(state_dict, prefix, *args)


def is_narrow(v: Tensor) -> bool:
    """Is it of 16 bits, or fewer?"""
    return v.is_floating_point() and v.dtype.itemsize < 4


def wider(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)
