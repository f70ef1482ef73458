"""What a known mistake is."""

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class Mistake:
    """One way to get batch normalization wrong.

    >>> steps = {"root": lambda var, eps: var**0.5}
    >>> mistake = Mistake("eps: missing", steps, "eps is missing", "Add it to var.")
    >>> mistake.steps["root"](4.0, eps=1e-5)
    2.0
    """

    name: str
    steps: dict[str, Any]  # the fields of `model.Steps` that it replaces
    message: str
    hint: str
