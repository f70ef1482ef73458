"""NumPy's .npz: named arrays, in the names of any framework.  It is only read."""

from pathlib import Path

import numpy as np

from bn_from_scratch.port.content import Content
from bn_from_scratch.port.formats import named


def read(path: Path, framework: str | None = None) -> Content:
    """`framework` overrides what the names say."""
    try:
        with np.load(path, allow_pickle=False) as file:
            flat = {name: file[name] for name in file.files}
    except Exception as error:  # the parser raises whatever it stumbles over
        reason = str(error) or type(error).__name__
        raise ValueError(f"NumPy cannot read it: {reason}") from None
    return named.content(flat, framework)
