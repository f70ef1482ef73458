"""Reading a file that somebody else made: a limit before memory is taken, and a door.

A file may be damaged, or mean harm. It may be small and claim to be huge, so its claims
are held to a limit before a byte of memory is taken for them. And whatever its reader
stumbles over becomes one sentence that names the file.
"""

import contextlib
import math
import os
import stat
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from bn_from_scratch.text import visible

VARIABLE = "BN_MAX_MEGABYTES"
MEGABYTES = 768  # VGG-19, the largest network with batch norms in wide use, has 575
LONGEST = 300  # characters of what a reader says
DEEP = "it is nested too deeply"
HUGE = "it asks for more memory than there is"


@contextlib.contextmanager
def door(what: str, *passing: type[Exception]) -> Iterator[None]:
    """Turn whatever the block raises into a ValueError: "{what}: {reason}".

    An absent framework is not the fault of a file, so ImportError passes; TooLarge has
    its own sentence; and the errors in `passing` pass as well.

    >>> with door("a.npz cannot be read"):
    ...     [][1]
    Traceback (most recent call last):
    ValueError: a.npz cannot be read: list index out of range
    """
    try:
        yield
    except (ImportError, TooLarge, *passing):
        raise
    except Exception as error:  # a parser raises whatever it stumbles over
        raise ValueError(f"{what}: {reason(error)}") from None


def reason(error: Exception) -> str:
    """What an error says, in one line."""
    known = {RecursionError: DEEP, MemoryError: HUGE}
    text = known.get(type(error)) or " ".join(str(error).split())
    text = visible(text) or type(error).__name__
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def limit() -> int:
    """How many bytes a file may unpack to; ValueError for a VARIABLE that is no number.

    It is 768 MB, or what the environment variable BN_MAX_MEGABYTES says.
    """
    said = os.environ.get(VARIABLE) or MEGABYTES
    try:
        megabytes = int(said)
    except ValueError:
        megabytes = 0
    if megabytes < 1:
        raise ValueError(f"{VARIABLE} must be a whole number of MB; got {said!r}")
    return megabytes * 2**20


class TooLarge(ValueError):
    """A file would take more memory than the limit.

    >>> check_size(10**12, "a.pt")
    Traceback (most recent call last):
    bn_from_scratch.reading.TooLarge: a.pt has 953,675 MB; at most 768 MB are read, \
and the environment variable BN_MAX_MEGABYTES raises that
    """


def check_size(size: int, what: str) -> None:
    """Raise TooLarge where so many bytes are more than the limit."""
    if size > (most := limit()):
        raise TooLarge(
            f"{what} has {-(-size // 2**20):,} MB; at most {most // 2**20:,} MB are "
            f"read, and the environment variable {VARIABLE} raises that"
        )


def check_file(path: str | os.PathLike[str]) -> None:
    """Raise OSError where there is no file to read, TooLarge for one that is huge."""
    found = os.stat(path)
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(f"a file is wanted; {path} is a folder")
    if not stat.S_ISREG(found.st_mode):
        raise OSError(f"a file is wanted; {path} is a device, or a pipe")
    check_size(found.st_size, f"{path}")
    open(path, "rb").close()  # or the system says why not


def content(path: str | os.PathLike[str]) -> bytes:
    """The bytes of a file; errors are those of `check_file`."""
    check_file(path)
    return Path(path).read_bytes()


def check_zip(path: str | os.PathLike[str]) -> None:
    """Raise TooLarge where the zip at path would unpack to more than the limit.

    `zipfile` gives no more of a member than its header says, and headers are summed.
    """
    with zipfile.ZipFile(path) as archive:
        size = sum(member.file_size for member in archive.infolist())
    check_size(size, f"{path}, unpacked,")


def npz(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """The arrays of a .npz file by name; objects, which are code, are refused."""
    check_zip(path)
    _check_claims(path)
    with np.load(path, allow_pickle=False) as arrays:
        return {key: arrays[key] for key in arrays.files}


def _check_claims(path):
    """Raise ValueError where an array would have more values than it has bytes.

    NumPy makes room for as many as its header claims before it looks for them.
    """
    headers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            with archive.open(member) as file:
                read_header = headers[np.lib.format.read_magic(file)]
                shape, _, dtype = read_header(file)
            if (size := math.prod(shape)) * dtype.itemsize > member.file_size:
                raise ValueError(
                    f"{member.filename} claims {size:,} values; it has "
                    f"{member.file_size:,} bytes"
                )
