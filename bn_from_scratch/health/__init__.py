"""What is wrong with the batch norms of a user's model, layer by layer.

`symptoms` holds what is looked for, as data; `examine` looks; `report` tells.
Importing this package imports no framework.
"""

from bn_from_scratch.health.examine import health
from bn_from_scratch.health.report import Health

__all__ = ["Health", "health"]


def __dir__() -> list[str]:
    return __all__
