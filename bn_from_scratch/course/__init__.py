"""What the notebooks share: sizes, pictures, networks to experiment with.

`size` is the one parameter that makes a notebook quick; `figures` draws, `source` shows
the code of the package, `experiments` builds and trains the networks of the exercises.
"""

import os
from typing import TypeVar

T = TypeVar("T")

QUICK = "BN_QUICK"  # environment variable: set in tests, where a notebook must be quick


def size(full: T, quick: T) -> T:
    """`full` for a reader, `quick` where the notebook is only tried (BN_QUICK=1)."""
    return quick if os.environ.get(QUICK, "0") not in ("", "0") else full
