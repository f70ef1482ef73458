"""Where the data comes from, what is refused, and how it is cut. Nothing here leaves
this machine: the mirrors are a server on 127.0.0.1 or a port where nobody listens."""

import gzip
import hashlib
import http.server
import os
import re
import resource
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pooch
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bn_from_scratch import data, garments

REAL = os.environ.get(data.VARIABLE)
REAL_FILES = dict(data.FILES)
DEAD = "http://127.0.0.1:1/"
TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS = REAL_FILES


def _gz(values):
    header = bytes([0, 0, 8, values.ndim]) + np.array(values.shape, ">i4").tobytes()
    return gzip.compress(header + values.astype(np.uint8).tobytes(), mtime=0)


_RNG = np.random.default_rng(5)
ARRAYS = {
    TRAIN_IMAGES: _RNG.integers(0, 256, (30, 28, 28)),
    TRAIN_LABELS: _RNG.integers(0, 10, 30),
    TEST_IMAGES: _RNG.integers(0, 256, (11, 28, 28)),
    TEST_LABELS: _RNG.integers(0, 10, 11),
}
BLOBS = {name: _gz(values) for name, values in ARRAYS.items()}


@pytest.fixture(autouse=True)
def home(monkeypatch, tmp_path):
    """Small files in the place of the real ones, an empty data folder, no network."""
    small = {n: (len(b), hashlib.sha256(b).hexdigest()) for n, b in BLOBS.items()}
    monkeypatch.setattr(data, "FILES", small)
    monkeypatch.setattr(data, "MIRRORS", (DEAD,))
    monkeypatch.setattr(data, "data_folder", lambda: tmp_path / "home")
    monkeypatch.setattr(garments, "draw", partial(garments.draw, 20, 10))
    monkeypatch.delenv(data.VARIABLE, raising=False)
    monkeypatch.setenv("NO_PROXY", "*")
    return tmp_path / "home"


def _fill(folder, names=tuple(BLOBS)):
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).write_bytes(BLOBS[name])
    return folder


def _is_small(dataset):
    assert dataset.name == "Fashion-MNIST"
    loaded = {
        TRAIN_IMAGES: dataset.train_images,
        TRAIN_LABELS: dataset.train_labels,
        TEST_IMAGES: dataset.test_images,
        TEST_LABELS: dataset.test_labels,
    }
    for name, array in loaded.items():
        assert array.dtype == (np.uint8 if "images" in name else np.int64)
        np.testing.assert_array_equal(array, ARRAYS[name])
    return True


class Mirror(http.server.BaseHTTPRequestHandler):
    """/KIND/name: good, cut (half the bytes), lying (other bytes), gone (404), hung
    (never answers), stuck (answers, sends nothing), flaky (cut the first time), drip
    (a byte now and then), slow (its header so), flood (bytes without end)."""

    def do_HEAD(self):
        self._answer(send=False)

    def do_GET(self):
        self._answer(send=True)

    def _answer(self, send):
        _, kind, name = self.path.split("/")
        if kind == "hung" or (kind == "stuck" and send):
            if not self.server.over.wait(60):
                self.server.sent.append((kind, "nothing, and somebody waited"))
            return
        if kind == "gone":
            self.send_error(404)
            return
        blob = BLOBS[name]
        if send and kind in ("drip", "slow", "flood"):
            self.server.sent.append((kind, name))
            start = b"HTTP/1.0 200 OK\r\n" + b"\r\n" * (kind != "slow")
            self.wfile.write(start)
            piece = bytes(2**14) if kind == "flood" else b"X"
            while not self.server.over.wait(0 if kind == "flood" else 0.05):
                self.wfile.write(piece)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(blob)))
        self.end_headers()
        if not send:
            return
        again = (kind, name) in self.server.sent
        self.server.sent.append((kind, name))
        if kind == "cut" or (kind == "flaky" and not again):
            blob = blob[: len(blob) // 2]
        if kind == "lying":
            blob = blob[:-1] + b"?"
        for start in range(0, len(blob), 4096):  # slow enough for two to overlap
            self.wfile.write(blob[start : start + 4096])
            time.sleep(0.002)

    def log_message(self, *args):
        pass


@pytest.fixture
def mirrors(monkeypatch):
    """mirrors("cut", "good") makes those two the mirrors; returns what they sent."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Mirror)
    server.daemon_threads, server.sent, server.over = True, [], threading.Event()
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()

    def use(*kinds):
        base = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setattr(data, "MIRRORS", tuple(f"{base}/{k}/" for k in kinds))
        return server.sent

    yield use
    server.over.set()
    server.shutdown()
    server.server_close()


def _exactly(message):
    return f"^{re.escape(message)}$"


# The order of the sources.


def test_the_argument_comes_before_the_variable(tmp_path, monkeypatch):
    monkeypatch.setenv(data.VARIABLE, str(tmp_path / "absent"))
    assert _is_small(data.load(folder=_fill(tmp_path / "named")))
    monkeypatch.setenv(data.VARIABLE, str(tmp_path / "named"))
    with pytest.raises(FileNotFoundError):
        data.load(folder=tmp_path / "absent")


def test_the_variable_comes_before_the_data_folder(home, tmp_path, monkeypatch):
    _fill(home)
    monkeypatch.setenv(data.VARIABLE, str(tmp_path / "absent"))
    with pytest.raises(FileNotFoundError):
        data.load()
    home.rename(tmp_path / "named")
    monkeypatch.setenv(data.VARIABLE, str(tmp_path / "named"))
    assert _is_small(data.load())


def test_the_data_folder_comes_before_the_mirrors(home, mirrors):
    sent = mirrors("good")
    _fill(home)
    assert _is_small(data.load("fashion-mnist"))
    assert sent == []


def test_an_empty_variable_counts_as_unset(home, monkeypatch):
    monkeypatch.setenv(data.VARIABLE, "")
    _fill(home)
    assert _is_small(data.load())


def test_garments_are_drawn_whatever_is_here(home, capfd):
    _fill(home)
    dataset = data.load("garments")
    assert dataset.name == "garments (drawn by code, not Fashion-MNIST)"
    assert np.array_equal(dataset.test_images, garments.draw()[2])
    assert capfd.readouterr().err == ""


def test_an_unknown_source_is_refused():
    message = "data source must be one of auto, fashion-mnist, garments; got 'mnist'"
    with pytest.raises(ValueError, match=_exactly(message)):
        data.load("mnist")


# Files that are wrong or absent.


@pytest.mark.parametrize("source", ["auto", "fashion-mnist"])
@pytest.mark.parametrize("by", ["argument", "variable", "data folder"])
@pytest.mark.parametrize("damage", ["cut", "one bit", "another file", "empty"])
@pytest.mark.parametrize("name", BLOBS)
def test_a_wrong_file_is_an_error(
    home, tmp_path, monkeypatch, mirrors, source, by, damage, name
):
    sent = mirrors("good")
    folder = _fill(home if by == "data folder" else tmp_path / "named")
    real, others = BLOBS[name], [other for other in BLOBS if other != name]
    wrong = {
        "cut": real[:-10],
        "one bit": real[:20] + bytes([real[20] ^ 1]) + real[21:],
        "another file": BLOBS[others[0]],
        "empty": b"",
    }[damage]
    (folder / name).write_bytes(wrong)
    if by == "data folder":  # and the error comes before the missing file is fetched
        (folder / others[-1]).unlink()
    if by == "variable":
        monkeypatch.setenv(data.VARIABLE, str(folder))
    message = (
        f"{name} must have {len(real)} bytes and the SHA-256 "
        f"{hashlib.sha256(real).hexdigest()}; the file in {str(folder)!r} has "
        f"{len(wrong)} bytes and the SHA-256 {hashlib.sha256(wrong).hexdigest()}. "
        f"Delete it and fetch it again from {data.MIRRORS[0]}{name}, or let "
        "FASHION_MNIST_DIR name another folder"
    )
    with pytest.raises(ValueError, match=_exactly(message)):
        data.load(source, folder if by == "argument" else None)
    assert sent == []
    assert (folder / name).read_bytes() == wrong


def test_a_file_is_verified_each_time(home):
    _fill(home)
    data.load()
    (home / TRAIN_LABELS).write_bytes(_gz(np.zeros(30, int)))
    with pytest.raises(ValueError, match=f"^{TRAIN_LABELS} must have"):
        data.load()


@pytest.mark.parametrize("source", ["auto", "fashion-mnist"])
@pytest.mark.parametrize("by", ["argument", "variable"])
@pytest.mark.parametrize("what", ["no file", "no folder", "not a folder"])
def test_a_named_folder_without_a_file_is_an_error(
    tmp_path, monkeypatch, mirrors, source, by, what
):
    sent = mirrors("good")
    folder = tmp_path / "named"
    if what == "no file":
        _fill(folder, [TRAIN_IMAGES, TEST_IMAGES, TEST_LABELS])
    if what == "not a folder":
        folder.write_text("a file")
    if by == "variable":
        monkeypatch.setenv(data.VARIABLE, str(folder))
    name = TRAIN_LABELS if what == "no file" else TRAIN_IMAGES
    state = "it is not there" if what == "no file" else "there is no such folder"
    message = (
        f"{name} must be in the folder {str(folder)!r}; {state}. Fetch it from "
        f"{data.MIRRORS[0]}{name}, or let FASHION_MNIST_DIR name another folder, or "
        "unset it to have the files downloaded"
    )
    with pytest.raises(FileNotFoundError, match=_exactly(message)):
        data.load(source, folder if by == "argument" else None)
    assert sent == []


# Without a network.


def _could_not(home, *tried):
    return (
        f"train-images-idx3-ubyte.gz could not be downloaded from any of "
        f"{', '.join(tried)}; download it by hand into {str(home)!r}, or let "
        "FASHION_MNIST_DIR name a folder with all four files"
    )


def test_auto_falls_back_with_a_notice(home, capfd):
    dataset = data.load()
    assert dataset.name == "garments (drawn by code, not Fashion-MNIST)"
    assert np.array_equal(dataset.train_images, garments.draw()[0])
    notice = "Using garments drawn by code, not Fashion-MNIST: "
    reason = _could_not(home, f"{DEAD} (ConnectionError)")
    assert capfd.readouterr() == ("", f"{notice}{reason}\n")
    assert not home.exists()


def test_fashion_mnist_does_not_fall_back(home, mirrors):
    mirrors("gone", "lying", "cut")
    gone, lying, cut = data.MIRRORS
    message = _could_not(
        home,
        f"{gone} (does not offer the file)",
        f"{lying} (sent a file with another SHA-256)",
        f"{cut} (ChunkedEncodingError)",
    )
    with pytest.raises(ConnectionError, match=_exactly(message)):
        data.load("fashion-mnist")
    assert list(home.iterdir()) == []  # nothing half done stays behind


def test_a_name_lookup_that_hangs_delays_nobody(home, monkeypatch):
    over, waited = threading.Event(), []

    def hang(*args, **kwargs):
        if not over.wait(60):
            waited.append("to the end")

    monkeypatch.setattr(pooch.HTTPDownloader, "__call__", hang)
    monkeypatch.setattr(data, "TIMEOUT", 0.2)
    monkeypatch.setattr(data, "MIRRORS", (DEAD, "http://127.0.0.1:2/"))
    with pytest.raises(ConnectionError, match=re.escape(f"{DEAD} (no answer)")):
        data.load("fashion-mnist")
    assert waited == []
    over.set()


@pytest.mark.parametrize("kind", ["hung", "stuck"])
def test_a_mirror_that_hangs_does_not_hold_up_the_next(
    home, mirrors, monkeypatch, kind
):
    sent = mirrors(kind, "good")
    _fill(home, [TRAIN_IMAGES, TEST_IMAGES, TEST_LABELS])
    monkeypatch.setattr(data, "TIMEOUT", 3)  # a busy machine answers late, too
    assert _is_small(data.load("fashion-mnist"))
    assert sent == [("good", TRAIN_LABELS)]


# Downloads.


@pytest.mark.parametrize("source", ["auto", "fashion-mnist"])
@pytest.mark.parametrize("kind", ["gone", "cut", "lying"])
def test_the_second_mirror_serves_where_the_first_fails(home, mirrors, source, kind):
    mirrors(kind, "good")
    assert _is_small(data.load(source))
    assert {path.name for path in home.iterdir()} == set(BLOBS)


def test_a_broken_transfer_is_tried_again(mirrors):
    sent = mirrors("flaky")
    assert _is_small(data.load("fashion-mnist"))
    assert sent == [("flaky", name) for name in BLOBS for _ in range(2)]


def test_only_what_is_missing_is_fetched(home, mirrors):
    sent = mirrors("good")
    _fill(home, [TRAIN_IMAGES, TEST_LABELS])
    assert _is_small(data.load())
    assert sent == [("good", TRAIN_LABELS), ("good", TEST_IMAGES)]
    assert _is_small(data.load())
    assert len(sent) == 2


def test_downloads_at_once_do_not_hurt_each_other(home, mirrors):
    mirrors("good")
    with ThreadPoolExecutor(4) as pool:
        loads = [pool.submit(data.load, "fashion-mnist") for _ in range(4)]
        assert all(_is_small(load.result()) for load in loads)
    assert {path.name for path in home.iterdir()} == set(BLOBS)


@pytest.mark.parametrize(("kind", "came"), [("drip", r"\d"), ("slow", "0")])
def test_a_mirror_that_is_too_slow_is_given_up(home, mirrors, monkeypatch, kind, came):
    """Each byte comes well within the timeout; all of them would take minutes."""
    sent = mirrors(kind, "good")
    monkeypatch.setattr(data, "TIMEOUT", 1)
    start = time.monotonic()
    assert _is_small(data.load("fashion-mnist"))
    assert time.monotonic() - start < 10
    assert [name for which, name in sent if which == kind] == [TRAIN_IMAGES]
    mirrors(kind)
    size = len(BLOBS[TRAIN_IMAGES])
    (home / TRAIN_IMAGES).unlink()
    words = rf"sent {came}+ of {size:,} bytes in 1 s"
    with pytest.raises(ConnectionError, match=rf"{kind}/ \({words}\); download it by"):
        data.load("fashion-mnist")
    assert {path.name for path in home.iterdir()} == set(BLOBS) - {TRAIN_IMAGES}


def test_a_mirror_that_sends_too_much_is_given_up(home, mirrors):
    sent = mirrors("flood")
    size = len(BLOBS[TRAIN_IMAGES])
    words = rf"flood/ \(sent more than the {size:,} bytes it has\); download it by"
    with pytest.raises(ConnectionError, match=words):
        data.load("fashion-mnist")
    assert sent == [("flood", TRAIN_IMAGES)]
    assert list(home.iterdir()) == []


def test_a_wrong_file_is_not_read_whole(home):
    _fill(home)
    with open(home / TRAIN_LABELS, "r+b") as file:
        file.truncate(2**27)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match="has 134217728 bytes"):
        data.load()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**16


# Batches.


@pytest.fixture
def small(home):
    return data.load(folder=_fill(home))


def test_train_batches_are_scaled_and_shaped(small):
    for dtype in ("float32", "float64"):
        X, y = next(small.train_batches(8, seed=0, epoch=0, dtype=dtype))
        assert (X.shape, X.dtype) == ((8, 1, 28, 28), dtype)
        assert (y.shape, y.dtype) == ((8,), np.int64)
        order = np.random.default_rng((0, 0)).permutation(30)[:8]
        expected = ARRAYS[TRAIN_IMAGES][order, None].astype(dtype) / 255
        np.testing.assert_array_equal(X, expected)
        np.testing.assert_array_equal(y, ARRAYS[TRAIN_LABELS][order])
        assert X.min() >= 0
        assert X.max() == 1


def _order(dataset, seed, epoch):
    batches = dataset.train_batches(30, seed, epoch)
    return np.concatenate([X[:, 0].reshape(len(X), -1) for X, _ in batches])


def test_the_order_is_that_of_seed_and_epoch(small):
    np.testing.assert_array_equal(_order(small, 1, 2), _order(small, 1, 2))
    assert not np.array_equal(_order(small, 1, 2), _order(small, 1, 3))
    assert not np.array_equal(_order(small, 1, 2), _order(small, 2, 2))
    assert not np.array_equal(_order(small, 1, 2), _order(small, 2, 1))


@given(n=st.integers(1, 40), batch_size=st.integers(1, 50))
def test_every_batch_is_full_and_no_example_comes_twice(n, batch_size):
    images = np.zeros((n, 28, 28), np.uint8)
    dataset = data.Dataset("numbered", images, np.arange(n), images, np.arange(n))
    labels = [y for _, y in dataset.train_batches(batch_size, seed=3, epoch=4)]
    assert {len(y) for y in labels} == {min(n, batch_size)}
    assert len(labels) == max(1, n // batch_size)
    assert len(np.unique(np.concatenate(labels))) == sum(map(len, labels))


def test_test_batches_keep_the_order_and_the_rest(small):
    batches = list(small.test_batches(4, dtype="float64"))
    assert [len(y) for _, y in batches] == [4, 4, 3]
    X = np.concatenate([X for X, _ in batches])
    np.testing.assert_array_equal(X, ARRAYS[TEST_IMAGES][:, None] / 255)
    labels = np.concatenate([y for _, y in batches])
    np.testing.assert_array_equal(labels, ARRAYS[TEST_LABELS])
    assert next(small.test_batches(4))[0].dtype == np.float32


@pytest.mark.parametrize("batch_size", [0, -1])
def test_a_batch_needs_an_example(small, batch_size):
    message = _exactly(f"batch_size must be positive; got {batch_size}")
    with pytest.raises(ValueError, match=message):
        small.train_batches(batch_size, seed=0, epoch=0)
    with pytest.raises(ValueError, match=message):
        small.test_batches(batch_size)
    with pytest.raises(ValueError, match=message):
        small.whole_batches(batch_size, seed=0)


def test_take_keeps_the_first_examples(small):
    fewer = small.take(train=7)
    assert fewer.name == small.name
    np.testing.assert_array_equal(fewer.train_images, small.train_images[:7])
    np.testing.assert_array_equal(fewer.train_labels, small.train_labels[:7])
    np.testing.assert_array_equal(fewer.test_images, small.test_images)
    assert len(small.take(test=11).test_labels) == 11
    assert len(small.take(test=3).test_images) == 3


@pytest.mark.parametrize(
    ("part", "count", "most"),
    [("train", 31, 30), ("train", 0, 30), ("test", 12, 11), ("test", 0, 11)],
)
def test_take_refuses_what_there_is_not(small, part, count, most):
    message = f"{part} must be between 1 and {most}; got {count}"
    with pytest.raises(ValueError, match=_exactly(message)):
        small.take(**{part: count})


# The real files.


def test_the_real_files_decode(monkeypatch):
    if not REAL:
        pytest.skip(f"{data.VARIABLE} is not set: no real Fashion-MNIST to decode")
    monkeypatch.setattr(data, "FILES", REAL_FILES)
    dataset = data.load("fashion-mnist", REAL)
    assert dataset.train_images.shape == (60_000, 28, 28)
    assert dataset.test_images.shape == (10_000, 28, 28)
    assert dataset.train_labels[:4].tolist() == [9, 0, 0, 3]
    assert dataset.test_labels[:4].tolist() == [9, 2, 1, 1]
    assert np.bincount(dataset.train_labels).tolist() == [6000] * 10
    # The mean of the pixels in [0, 1] that everybody quotes for this data set.
    assert abs(dataset.train_images.mean() / 255 - 0.2860) < 5e-5


def test_the_data_folder_is_that_of_the_checkout(monkeypatch, tmp_path):
    monkeypatch.undo()
    monkeypatch.setattr(data, "__file__", str(tmp_path / "bn_from_scratch" / "data.py"))
    assert data.data_folder() == pooch.os_cache("bn-from-scratch")
    (tmp_path / "pyproject.toml").write_text("")
    assert data.data_folder() == tmp_path / "data"


@pytest.mark.parametrize(("size", "sizes"), [(64, [60, 60, 60, 60, 60]), (7, None)])
def test_whole_batches_leave_nothing_over(size, sizes):
    rng = np.random.default_rng(0)
    train = rng.integers(0, 256, (300, 28, 28), np.uint8), np.arange(300) % 10
    small = data.Dataset("noise", *train, *train)
    batches = list(small.whole_batches(size, seed=3))
    found = [len(y) for _, y in batches]
    assert max(found) <= size and min(found) >= max(found) - 1
    assert sizes is None or found == sizes
    images = np.concatenate([X for X, _ in batches])[:, 0]
    given = small.train_images.astype("f4") / 255
    assert sorted(v.tobytes() for v in images) == sorted(v.tobytes() for v in given)
    assert not np.array_equal(images, given)  # in an order of their own
    again, other = (next(small.whole_batches(size, seed))[0] for seed in (3, 4))
    np.testing.assert_array_equal(again, batches[0][0])
    assert not np.array_equal(other, again)
