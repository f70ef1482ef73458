"""One batch norm of a model, in the spec's words and as NumPy arrays."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class Description:
    """What there is to know of a batch norm, whatever its framework.

    settings: arguments of our BatchNorm by name: eps, momentum (weight of the new
    batch; None pools), dtype, axis, center, scale, correction, statistics, frozen.
    state: gamma, beta, moving_mean, moving_var [C], as far as the layer has them and
    they have been built.  trainable: {"gamma": bool, "beta": bool}, likewise.
    peculiarity: what it does that its class does not say, in words; None if nothing.

    >>> bn1 = Description("bn1", "BatchNorm2d", True, 6, 4, {"eps": 1e-5}, state={})
    >>> bn1.make(lambda num_features, num_dims, eps: (num_features, num_dims, eps))
    (6, 4, 1e-05)
    """

    name: str  # its path in the model: "features.0.bn1"
    kind: str  # the name of its class
    native: bool  # is it the framework's own?
    num_features: int | tuple[int, ...] | None  # None: not built yet
    num_dims: int | None  # axes of X; None: any
    settings: dict[str, Any]
    state: dict[str, np.ndarray]
    trainable: dict[str, bool] = dataclasses.field(default_factory=dict)
    peculiarity: str | None = None

    def make(self, make: Callable[..., Any]) -> Any:
        """What `make(num_features, num_dims, **settings)` gives: a BatchNorm, a variant
        or the framework's own.  What a `partial` sets wins."""
        args, chosen = chosen_by(make)
        sizes = {"num_features": self.num_features, "num_dims": self.num_dims}
        free = {k: v for k, v in list(sizes.items())[len(args) :] if k not in chosen}
        settings = {k: v for k, v in self.settings.items() if k not in chosen}
        try:
            if len(free) == len(sizes):  # by place: a function may call them otherwise
                return make(*free.values(), **settings)
            return make(**free, **settings)
        except (TypeError, ValueError) as error:
            raise type(error)(f"{self.name} cannot be replaced: {error}") from error

    def needed(self, make: Callable[..., Any]) -> tuple[str, ...]:
        """The state of this layer that the one that `make` gives must keep."""
        wanted, names = self.wanted(make), ("gamma", "beta")
        if wanted["statistics"] == "moving":
            names += ("moving_mean", "moving_var")
        return names if wanted["momentum"] is not None else (*names, "moving_count")

    def wanted(self, make: Callable[..., Any]) -> dict[str, Any]:
        """The settings of the layer that `make` gives."""
        return self.settings | chosen_by(make)[1]


def chosen_by(make: Callable[..., Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """What the caller has set in a `partial`: by place, by name."""
    if isinstance(make, functools.partial):
        return make.args, dict(make.keywords)
    return (), {}
