"""Writing a file so that nobody ever reads half of one."""

import os
from pathlib import Path


def write_atomically(path: str | os.PathLike[str], content: str | bytes) -> None:
    """Write bytes or text (as UTF-8) to path: the whole content, or nothing.

    The content goes to a file beside path, which then takes its name: a reader sees
    the old file or the new one. A plain `open`, unlike `tempfile`, honours the umask.
    """
    path = Path(path)
    data = content.encode() if isinstance(content, str) else content
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(beside, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
