"""Results as JSON."""

import json
import math
from typing import Any

import numpy as np


def to_json(value: Any) -> str:
    """JSON text; NaN and infinity, which JSON lacks, become null.

    >>> print(to_json([np.float32(0.5), float("nan")]), end="")
    [
     0.5,
     null
    ]
    """
    return json.dumps(_plain(value), indent=1, allow_nan=False) + "\n"


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, dict):
        return {key: _plain(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
