"""Fetch a file whose size is known, and give up on who is too slow or sends too much.

A server that sends a byte a second trips no timeout: those of a connection begin anew
with each byte. So a thread fetches, and whoever waits for it looks at the clock.
"""

import threading
import time
from typing import Any

import requests
from tqdm import tqdm

CHUNK = 2**14  # bytes that are read at once
SLOWEST = 20_000  # bytes a second, on average


class GaveUp(OSError):
    """A download that was given up, and why.

    >>> raise GaveUp("sent 12 of 29,515 bytes in 10 s")
    Traceback (most recent call last):
    bn_from_scratch.download.GaveUp: sent 12 of 29,515 bytes in 10 s
    """


class Download:
    """One file of `size` bytes; `download(url, path)` is what pooch calls.

    It may take `patience` seconds, and one more for each SLOWEST bytes that came.

    >>> Download(size=29_515, patience=10).allowed()
    10.0
    """

    def __init__(self, size: int, patience: float) -> None:
        self.size = size
        self.patience = patience
        self.received: int = 0
        self.error: Exception | None = None
        # The thread has ended, or nobody waits for it.
        self.over: threading.Event = threading.Event()

    def allowed(self) -> float:
        """The seconds that it may have taken by now."""
        return self.patience + self.received / SLOWEST

    def __call__(self, url: str, path: Any, pooch: Any = None) -> None:
        """Fetch the url into path; OSError where it fails or is given up."""
        start = time.monotonic()
        threading.Thread(target=self._run, args=(url, path), daemon=True).start()
        title, quiet = url.rpartition("/")[2], None  # None: a bar on a terminal only
        with tqdm(
            total=self.size, desc=title, unit="B", unit_scale=True, disable=quiet
        ) as bar:
            while not self.over.wait(0.05):
                bar.update(self.received - bar.n)
                seconds = time.monotonic() - start
                if seconds > self.allowed():
                    self.over.set()
                    raise GaveUp(
                        f"sent {self.received:,} of {self.size:,} bytes in "
                        f"{seconds:.0f} s"
                    )
        if self.error is not None:
            raise self.error

    def _run(self, url, path):
        try:
            self._fetch(url, path)
        except Exception as error:
            self.error = error
        self.over.set()

    def _fetch(self, url, path):
        with requests.get(url, stream=True, timeout=self.patience) as response:
            response.raise_for_status()
            if self.over.is_set():
                return
            with open(path, "wb") as file:
                for chunk in response.iter_content(CHUNK):
                    if self.over.is_set():
                        return
                    self.received += len(chunk)
                    if self.received > self.size:
                        raise GaveUp(f"sent more than the {self.size:,} bytes it has")
                    file.write(chunk)
