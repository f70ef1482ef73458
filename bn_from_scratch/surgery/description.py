"""One batch norm of a model, in the spec's words and as NumPy arrays."""

import dataclasses
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

    def make(self, make: Callable[..., Any]) -> Any:
        """What `make(num_features, num_dims, **settings)` gives: a BatchNorm, a variant
        or the framework's own."""
        try:
            return make(self.num_features, self.num_dims, **self.settings)
        except (TypeError, ValueError) as error:
            raise type(error)(f"{self.name} cannot be replaced: {error}") from error
