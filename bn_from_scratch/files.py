"""Writing a file so that nobody ever reads half of one.

While it is written, a file stands in a folder `.bn-PID-N.tmp` beside its place. Its
writer keeps that folder locked, and the system unlocks it when the writer ends, however
it ends: a folder that nobody has locked is left from a run that was killed, and the
next write into the same place removes it.
"""

import contextlib
import itertools
import os
import re
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows has no such locks: there, what was left stays
    fcntl = None

TEMPORARY = re.compile(r"\.bn-\d+-\d+\.tmp")
_numbers = itertools.count()  # two threads never get the same


def write_atomically(path: str | os.PathLike[str], content: str | bytes) -> None:
    """Write bytes or text (as UTF-8) to path: the whole content, or nothing.

    A reader sees the old file or the new one. Folders that are absent are made.
    """
    data = content.encode() if isinstance(content, str) else content
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as place:
        place.write_bytes(data)


@contextlib.contextmanager
def written_whole(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A place to write a file to, of the same name; it is at path when the block ends.

    If the block raises, path is as it was. A symbolic link at path is replaced, and the
    file that it leads to stays. The mode is that of a plain `open`, which honours the
    umask, whatever mode the writer gives its file.
    """
    path = Path(path)
    _remove_what_is_left(path.parent)
    with _locked_folder(path.parent) as folder:
        place = folder / path.name
        place.touch()
        mode = stat.S_IMODE(place.stat().st_mode)
        yield place
        place.chmod(mode)
        with open(place, "r+b") as file:
            os.fsync(file.fileno())
        os.replace(place, path)


@contextlib.contextmanager
def _locked_folder(parent):
    """A new folder that is locked, and removed in the end with all that is in it."""
    while True:
        folder = parent / f".bn-{os.getpid()}-{next(_numbers)}.tmp"
        with contextlib.suppress(FileExistsError):  # of another machine, or a dead one
            folder.mkdir()
            lock = _lock(folder)
            if folder.exists():  # else it was taken for a left one before it was locked
                break
            _unlock(lock)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        _unlock(lock)


def _remove_what_is_left(parent):
    """Remove the folders of writers that are no more."""
    if fcntl is None:
        return
    for folder in parent.iterdir():
        if not TEMPORARY.fullmatch(folder.name):
            continue
        with contextlib.suppress(OSError):  # it is locked, or was removed meanwhile
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder)
            finally:
                os.close(lock)


def _lock(folder):
    """An open folder that is locked; None where that cannot be."""
    if fcntl is None:
        return None
    with contextlib.suppress(OSError):
        lock = os.open(folder, os.O_RDONLY)
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(lock, fcntl.LOCK_EX)
        return lock


def _unlock(lock):
    if lock is not None:
        os.close(lock)
