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
    left: names of what is neither.  unknown: {path: class} of what has the settings of
    a batch norm and is of a class that is not known here.  narrow: the dtypes of 16
    bits in the file, whose arrays are float32 here.

    >>> vector = np.ones(3, np.float32)
    >>> norm = Norm({"moving_mean": vector, "moving_var": vector})
    >>> check(Content("torch", {"bn1": norm})).dtype
    'float32'
    """

    framework: str  # one of backends.NAMES, or EXCHANGE
    norms: dict[str, Norm]
    others: dict[str, np.ndarray] = field(default_factory=dict)
    left: tuple[str, ...] = ()
    unknown: dict[str, str] = field(default_factory=dict)
    narrow: tuple[str, ...] = ()
    mixed: bool = False  # Keras 2: the stored variance may be in either convention

    @property
    def dtype(self) -> str:
        """The narrowest that holds all."""
        arrays = [v for norm in self.norms.values() for v in norm.state.values()]
        return np.result_type(*arrays, *self.others.values()).name


def check(content: Content) -> Content:
    """Raise ValueError unless these are batch norms that can be carried.

    They are, if they are well formed, have numbers, and predict by what they have.
    """
    if not content.norms:
        unknown = [f"{path} (a {kind})" for path, kind in content.unknown.items()]
        found = ", ".join([*unknown, *content.others, *content.left][:5]) or "nothing"
        raise ValueError(f"there is no batch norm in it; it has {found}")
    check_form(content)
    for path, norm in content.norms.items():
        for name, v in norm.state.items():
            if wrong := np.sum(~np.isfinite(v)):
                raise ValueError(
                    f"the state of a batch norm must be finite; {_label(path, name)} "
                    f"is not in {wrong} of {v.size} channels"
                )
        if norm.statistics != "moving":
            raise ValueError(
                f"{path or 'the layer'} predicts by the statistics of the batch "
                "(statistics='batch'); elsewhere it would by the moving ones"
            )
    return content


def check_form(content: Content) -> Content:
    """Raise ValueError unless each batch norm has equal vectors of floats, and settings
    that a batch norm can have; there need be none.

    Names are those of the parameters in the project.
    """
    for path, norm in content.norms.items():
        shape = norm.state["moving_mean"].shape
        for name, v in norm.state.items():
            label = _label(path, name)
            if v.dtype.name not in DTYPES:
                raise ValueError(
                    "the state of a batch norm is floats of 16, 32 or 64 bits; "
                    f"{label} is {v.dtype.name}"
                )
            if v.ndim != 1 or v.shape != shape:
                raise ValueError(
                    f"the state of a batch norm is vectors of one length; {label} has "
                    f"shape {v.shape}, moving_mean {shape}"
                )
        if (norm.state["moving_var"] < 0).any():
            least = np.nanmin(norm.state["moving_var"])
            raise ValueError(
                f"a variance must not be negative; {_label(path, 'moving_var')} has "
                f"{least:g}"
            )
        check_settings(norm.eps, norm.momentum, f" of {path}" if path else "")
    return content


def check_settings(eps: float | None, momentum: float | None, of: str = "") -> None:
    """Raise ValueError unless a batch norm can have them; None is not known."""
    if eps is not None and not 0 < eps < np.inf:
        raise ValueError(f"eps{of} must be positive and finite; it is {eps:g}")
    if momentum is not None and not 0 <= momentum <= 1:
        raise ValueError(
            f"momentum{of}, the weight of the new batch, must lie between 0 and 1; "
            f"it is {momentum:g}"
        )


def _label(path, name):
    return f"{path}.{name}".lstrip(".")
