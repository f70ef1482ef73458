"""What a file holds, whatever its format and its framework."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

DTYPES = ("float32", "float64")
OURS = ("gamma", "beta", "moving_mean", "moving_var")
NEUTRAL = {"gamma": 1.0, "beta": 0.0}  # what a parameter that is not there amounts to
EXCHANGE = "exchange"  # files in the project's own names, of no framework


@dataclass(frozen=True)
class Norm:
    """One batch norm.  eps and momentum are in our words; None: the file is silent.

    state: gamma, beta, moving_mean, moving_var [C], without those it does not have.
    own: the same arrays under the names, or in the order, that the file has.
    filled: what its framework's layer must have, put there as ones or zeros.

    >>> vector = np.ones(3, np.float32)
    >>> norm = Norm({"moving_mean": vector, "moving_var": vector}, filled=("gamma",))
    >>> norm.size, norm.dtype, [*norm.full()]
    (3, 'float32', ['gamma', 'moving_mean', 'moving_var'])
    """

    state: dict[str, np.ndarray]
    own: dict[str, np.ndarray] = field(default_factory=dict)
    scratch: bool = False  # our BatchNorm, not the framework's own layer
    eps: float | None = None
    momentum: float | None = None
    filled: tuple[str, ...] = ()
    batches: int | None = None  # PyTorch counts them
    config: dict[str, Any] | None = None  # what a file of Keras says of the layer
    correction: int | None = None  # of the stored variance; None: its framework's
    statistics: str = "moving"  # that predict; ours may take the batch's

    @property
    def size(self) -> int:
        """The number of channels."""
        return len(self.state["moving_mean"])

    @property
    def dtype(self) -> str:
        """The narrowest that holds all: Flax may keep float32 beside float64."""
        return np.result_type(*self.state.values()).name

    def numbers(self) -> tuple[float, float]:
        """eps and momentum; ValueError where neither the file nor the user said."""
        if self.eps is None or self.momentum is None:
            raise ValueError("eps and momentum of a batch norm must be known")
        return self.eps, self.momentum

    def full(self) -> dict[str, np.ndarray]:
        """The state with what was filled in, in the order gamma, beta, mean, var."""
        filled = {k: np.full(self.size, NEUTRAL[k], self.dtype) for k in self.filled}
        state = self.state | filled
        return {name: state[name] for name in OURS if name in state}


@dataclass(frozen=True)
class Content:
    """The batch norms of a file by their paths, and what else is in it.

    others: the other parameters, in the layout of the framework, named "conv1.weight".
    left: names of what is neither.

    >>> vector = np.ones(3, np.float32)
    >>> norm = Norm({"moving_mean": vector, "moving_var": vector})
    >>> check(Content("torch", {"bn1": norm})).dtype
    'float32'
    """

    framework: str  # one of backends.NAMES, or EXCHANGE
    norms: dict[str, Norm]
    others: dict[str, np.ndarray] = field(default_factory=dict)
    left: tuple[str, ...] = ()

    @property
    def dtype(self) -> str:
        """The narrowest that holds all."""
        arrays = [v for norm in self.norms.values() for v in norm.state.values()]
        return np.result_type(*arrays, *self.others.values()).name


def check(content: Content) -> Content:
    """Raise ValueError unless there are batch norms, each of equal vectors of floats.

    Names are those of the parameters in the project.
    """
    if not content.norms:
        found = ", ".join([*content.others, *content.left][:5]) or "nothing"
        raise ValueError(f"there is no batch norm in it; it has {found}")
    for path, norm in content.norms.items():
        shape = norm.state["moving_mean"].shape
        for name, v in norm.state.items():
            label = f"{path}.{name}".lstrip(".")
            if v.dtype.name not in DTYPES:
                kinds = " and ".join(DTYPES)
                raise ValueError(f"{kinds} can be carried; {label} is {v.dtype.name}")
            if v.ndim != 1 or v.shape != shape:
                raise ValueError(
                    f"the state of a batch norm is vectors of one length; {label} has "
                    f"shape {v.shape}, moving_mean {shape}"
                )
    return content
