"""The signature of a Flax module, as `help` and editors show it."""

import inspect
from typing import Any, TypeVar

from flax import linen as nn

Module = TypeVar("Module", bound=type[nn.Module])


def sign(cls: Module) -> Module:
    """Give a module a signature without `parent`, a field that Flax itself fills in."""
    module: Any = cls
    _, *parameters = inspect.signature(cls.__init__).parameters.values()
    shown = [p for p in parameters if p.name != "parent"]
    module.__signature__ = inspect.Signature(shown)
    return cls
