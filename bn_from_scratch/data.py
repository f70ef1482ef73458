"""Fashion-MNIST: find it, fetch it, verify it, decode it, cut it into batches.

`load` is the only door. Where Fashion-MNIST is neither here nor to be had, it hands out
the garments that `garments.py` draws, and says so.
"""

import gzip
import hashlib
import os
import sys
import threading
import time
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bn_from_scratch import garments
from bn_from_scratch.download import Download, GaveUp

with warnings.catch_warnings():  # tqdm's, in a notebook without ipywidgets
    warnings.simplefilter("ignore")
    import pooch

SOURCES = ("auto", "fashion-mnist", "garments")
VARIABLE = "FASHION_MNIST_DIR"
MIRRORS = (
    "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
    "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
)
# fmt: off
LABELS = ("t-shirt", "trouser", "pullover", "dress", "coat",
          "sandal", "shirt", "sneaker", "bag", "ankle boot")
FILES = {  # name: (bytes, SHA-256)
    "train-images-idx3-ubyte.gz": (26421880,
        "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"),
    "train-labels-idx1-ubyte.gz": (29515,
        "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"),
    "t10k-images-idx3-ubyte.gz": (4422102,
        "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"),
    "t10k-labels-idx1-ubyte.gz": (5148,
        "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"),
}
# fmt: on
TIMEOUT = 5  # seconds a mirror may stay silent

Batch = tuple[np.ndarray, np.ndarray]  # X [B, 1, 28, 28], y [B]


@dataclass(frozen=True)
class Dataset:
    """Images uint8 [N, 28, 28] and labels int64 [N], for training and for testing.

    >>> data = Dataset("garments", *garments.draw(n_train=300, n_test=100))
    >>> [X.shape for X, y in data.train_batches(128, seed=0, epoch=0)]
    [(128, 1, 28, 28), (128, 1, 28, 28)]
    """

    name: str
    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray

    def take(self, train: int | None = None, test: int | None = None) -> "Dataset":
        """The first `train` and `test` examples; None keeps them all."""
        return Dataset(
            self.name,
            *_first("train", train, self.train_images, self.train_labels),
            *_first("test", test, self.test_images, self.test_labels),
        )

    def train_batches(
        self, batch_size: int, seed: int, epoch: int, dtype: str = "float32"
    ) -> Iterator[Batch]:
        """Batches X [B, 1, 28, 28] in [0, 1] and y int64 [B], in the epoch's own order.

        NumPy draws the order from (seed, epoch), so every framework sees the same one
        and a run that resumes at epoch 3 goes on as if it had never stopped.
        """
        order = np.random.default_rng((seed, epoch)).permutation(len(self.train_labels))
        size = min(_positive(batch_size), len(order))
        # The last, partial batch is dropped: fewer examples have other statistics, and
        # the moving averages would give them the weight of a whole batch.
        full = [order[i : i + size] for i in range(0, len(order) - size + 1, size)]
        return _batches(self.train_images, self.train_labels, full, dtype)

    def whole_batches(
        self, batch_size: int, seed: int, dtype: str = "float32"
    ) -> Iterator[Batch]:
        """All training examples, in batches of at most this and of nearly equal size.

        None is left over, that might have one value per channel.
        """
        order = np.random.default_rng(seed).permutation(len(self.train_labels))
        parts = np.array_split(order, -(-len(order) // _positive(batch_size)))
        return _batches(self.train_images, self.train_labels, parts, dtype)

    def test_batches(self, batch_size: int, dtype: str = "float32") -> Iterator[Batch]:
        """Batches like those for training, in order; the last one may be smaller."""
        size = _positive(batch_size)
        every = [slice(i, i + size) for i in range(0, len(self.test_labels), size)]
        return _batches(self.test_images, self.test_labels, every, dtype)


def _first(
    part: str, count: int | None, images: np.ndarray, labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    if count is not None and not 1 <= count <= len(labels):
        raise ValueError(f"{part} must be between 1 and {len(labels)}; got {count}")
    return images[:count], labels[:count]


def _positive(batch_size: int) -> int:
    if batch_size < 1:
        raise ValueError(f"batch_size must be positive; got {batch_size}")
    return batch_size


def _batches(
    images: np.ndarray, labels: np.ndarray, indices: Iterable[Any], dtype: str
) -> Iterator[Batch]:
    for index in indices:
        yield images[index, None].astype(dtype) / 255, labels[index]


def load(source: str = "auto", folder: str | os.PathLike[str] | None = None) -> Dataset:
    """The `Dataset` from one of SOURCES.

    Fashion-MNIST is looked for in `folder`, else in the folder that FASHION_MNIST_DIR
    names, else in `data_folder()`, into which it is downloaded. With "auto", garments
    drawn by code stand in where the download fails; nothing stands in for a file that
    is wrong or for a folder that the user named.

    Errors: ValueError for an unknown source or a file that is not the real one,
    FileNotFoundError for a named folder without a file, ConnectionError where
    "fashion-mnist" cannot be downloaded.
    """
    if source not in SOURCES:
        names = ", ".join(SOURCES)
        raise ValueError(f"data source must be one of {names}; got {source!r}")
    if source == "garments":
        return _drawn()
    if named := folder or os.environ.get(VARIABLE):
        return _decoded({name: _read(name, Path(named)) for name in FILES})
    home = data_folder()
    # What is here is verified before the network is asked: a wrong file must be an
    # error, not a reason to fall back.
    blobs = {name: _read(name, home) for name in FILES if (home / name).exists()}
    missing = [name for name in FILES if name not in blobs]
    try:
        if missing:
            _download(missing, home)
    except OSError as error:
        if source == "fashion-mnist":
            raise
        notice = f"Using garments drawn by code, not Fashion-MNIST: {error}"
        print(notice, file=sys.stderr)
        return _drawn()
    return _decoded(blobs | {name: _read(name, home) for name in missing})


def data_folder() -> Path:
    """`data/` of the checkout the package runs from, else a per-user cache folder."""
    checkout = Path(__file__).resolve().parent.parent
    if (checkout / "pyproject.toml").is_file():
        return checkout / "data"
    return Path(pooch.os_cache("bn-from-scratch"))


def _drawn() -> Dataset:
    return Dataset("garments (drawn by code, not Fashion-MNIST)", *garments.draw())


def _read(name: str, folder: Path) -> bytes:
    """The bytes of one file, verified: what is decoded is what was checked."""
    size, digest = FILES[name]
    if not (folder / name).is_file():
        raise FileNotFoundError(
            f"{name} must be in the folder {str(folder)!r}; "
            f"{'it is not there' if folder.is_dir() else 'there is no such folder'}. "
            f"Fetch it from {MIRRORS[0]}{name}, or let {VARIABLE} name another folder, "
            "or unset it to have the files downloaded"
        )
    with open(folder / name, "rb") as file:
        length = os.fstat(file.fileno()).st_size
        blob = file.read(size) if length == size else b""
        file.seek(0)  # another file may be huge: it is looked at piece by piece
        check = hashlib.sha256(blob) if blob else hashlib.file_digest(file, "sha256")
    if (found := check.hexdigest()) != digest:
        raise ValueError(
            f"{name} must have {size} bytes and the SHA-256 {digest}; the file in "
            f"{str(folder)!r} has {length} bytes and the SHA-256 {found}. Delete it "
            f"and fetch it again from {MIRRORS[0]}{name}, or let {VARIABLE} name "
            "another folder"
        )
    return blob


def _decoded(blobs: dict[str, bytes]) -> Dataset:
    """The `Dataset` from the four files in the IDX format of MNIST.

    Byte 3 is the number of axes; their lengths follow as big-endian int32, then the
    values as uint8.
    """
    arrays = []
    for name in FILES:
        raw = gzip.decompress(blobs[name])
        shape = np.frombuffer(raw, ">i4", raw[3], offset=4)
        values = np.frombuffer(raw, np.uint8, offset=4 + 4 * len(shape)).reshape(shape)
        arrays.append(values.astype(np.int64 if "labels" in name else np.uint8))
    return Dataset("Fashion-MNIST", *arrays)


def _download(names: list[str], folder: Path) -> None:
    """Fetch files into the folder, each from the first mirror that has the real one.

    pooch writes to a temporary file, verifies it, and renames it: a broken transfer
    leaves nothing behind, and two processes at once do no harm.
    """
    failures = _unusable(names[0])
    usable = [mirror for mirror in MIRRORS if mirror not in failures]
    for name in names:
        size, digest = FILES[name]
        for mirror in usable * 2:  # a transfer that broke deserves a second try
            if mirror not in usable:
                continue
            http: Any = Download(size, TIMEOUT)  # not of the type that pooch declares
            try:
                known = f"sha256:{digest}"
                pooch.retrieve(mirror + name, known, name, folder, downloader=http)
                break
            except GaveUp as error:  # it will be no faster for the next file
                failures[mirror] = str(error)
                usable.remove(mirror)
            except OSError as error:
                failures[mirror] = type(error).__name__
            except ValueError:
                failures[mirror] = "sent a file with another SHA-256"
        else:
            tried = ", ".join(f"{m} ({failures[m]})" for m in MIRRORS)
            raise ConnectionError(
                f"{name} could not be downloaded from any of {tried}; download it by "
                f"hand into {str(folder)!r}, or let {VARIABLE} name a folder with "
                "all four files"
            )


def _unusable(name: str) -> dict[str, str]:
    """{mirror: why} for the mirrors that do not offer the file, all asked at once.

    Without a network a name look-up can hang far beyond any timeout of the request, so
    the question is asked in threads that nobody waits for longer than TIMEOUT.
    """
    reasons: dict[str, str | None] = dict.fromkeys(MIRRORS, "no answer")
    http = pooch.HTTPDownloader()

    def ask(mirror: str) -> None:
        try:
            offered = http(mirror + name, None, None, check_only=True)
            reasons[mirror] = None if offered else "does not offer the file"
        except OSError as error:
            reasons[mirror] = type(error).__name__

    threads = [threading.Thread(target=ask, args=(m,), daemon=True) for m in MIRRORS]
    deadline = time.monotonic() + TIMEOUT
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0, deadline - time.monotonic()))
    return {mirror: reason for mirror, reason in reasons.items() if reason}
