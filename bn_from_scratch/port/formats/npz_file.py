"""NumPy's .npz: named arrays, in the names of any framework.  It is only read."""

from pathlib import Path

from bn_from_scratch import reading
from bn_from_scratch.port.content import Content
from bn_from_scratch.port.formats import named


def read(path: Path, framework: str | None = None) -> Content:
    """`framework` overrides what the names say."""
    with reading.door("NumPy cannot read it"):
        flat = reading.npz(path)
    return named.content(flat, framework)
