"""What a known mistake is."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Mistake:
    """One way to get batch normalization wrong."""

    name: str
    steps: dict
    message: str
    hint: str
