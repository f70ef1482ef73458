"""What neither a file nor its user says of batch norms, and what hangs on it."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from bn_from_scratch.port.content import Norm

USUAL = {"1e-3": 1e-3, "1e-5": 1e-5}  # eps of Keras, and of the others


@dataclass(frozen=True)
class Assumption:
    """A setting that was assumed of some layers.

    otherwise: of eps, the usual value that it might be instead.  change: with that,
    how far the output would move in the worst channel, of the layer `worst`; in parts
    of its distance from beta.

    >>> print(Assumption("eps", 1e-5, "PyTorch", ["bn"], True, "1e-3", 0.29, "bn"))
    eps is 1e-05 (assumed; with 1e-3 the output would differ by up to 29%, in bn)
    >>> print(Assumption("momentum", 0.1, "PyTorch", ["bn"], True))
    momentum is 0.1 (assumed; it matters in training alone)
    """

    name: str  # "eps" or "momentum"
    value: float
    whose: str  # default it is
    layers: list[str]
    of_all: bool  # of every layer of the file
    otherwise: str | None = None
    change: float | None = None
    worst: str | None = None

    def __str__(self) -> str:
        some = "" if self.of_all else f" in {some_of(self.layers)}"
        what = "it matters in training alone"
        if self.change is not None:
            place = f", in {self.worst}" if self.worst and self.change else ""
            what = (
                f"with {self.otherwise} the output would differ by up to "
                f"{percent(self.change)}{place}"
            )
        return f"{self.name} is {self.value:g}{some} (assumed; {what})"

    def as_dict(self) -> dict[str, Any]:
        """The same as plain Python, for JSON."""
        found = {"setting": self.name, "value": self.value, "layers": self.layers}
        if self.change is not None:
            found |= {"otherwise": USUAL[self.otherwise or ""], "change": self.change}
        return found


def assumption(
    name: str, value: float, whose: str, norms: dict[str, Norm], of_all: bool
) -> Assumption:
    """The Assumption of a setting of these layers, by their paths."""
    given = name, value, whose, list(norms), of_all
    if name != "eps":
        return Assumption(*given)
    otherwise = next(text for text, other in USUAL.items() if other != value)
    other = USUAL[otherwise]
    changes = {
        path: change(norm.state["moving_var"], value, other)
        for path, norm in norms.items()
    }
    worst = max(changes, key=changes.__getitem__)
    return Assumption(*given, otherwise, changes[worst], worst)


def change(var: np.ndarray, eps: float, other: float) -> float:
    """How far a prediction moves with another eps, in parts of its distance from beta,
    in the worst channel.  [C]

    >>> change(np.array([1.0, 0.0]), 1e-3, 1e-5)
    9.0
    """
    var = var[np.isfinite(var)].astype(np.float64)
    return float(np.abs(np.sqrt((var + eps) / (var + other)) - 1).max(initial=0))


def percent(part: float) -> str:
    """Two figures: 0.2914 -> "29%", 9 -> "900%", 0.0005 -> "0.05%"."""
    return f"{float(f'{100 * part:.2g}'):,.12g}%"


def some_of(names: list[str]) -> str:
    """A few names, and how many more there are."""
    more = f" and {len(names) - 4} more" if len(names) > 4 else ""
    return ", ".join(names[:4]) + more
