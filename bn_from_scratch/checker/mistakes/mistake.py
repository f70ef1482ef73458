"""What a known mistake is."""

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class Mistake:
    """One way to get batch normalization wrong."""

    name: str
    steps: dict[str, Any]  # the fields of `model.Steps` that it replaces
    message: str
    hint: str
