"""The drawn stand-in: the same bytes everywhere, balanced, neither easy nor hard."""

import hashlib

import numpy as np
import pytest

from bn_from_scratch import garments
from bn_from_scratch.data import LABELS


@pytest.fixture(scope="module")
def drawn():
    return garments.draw(5000, 1000)


def test_same_seed_gives_the_same_bytes():
    digest = hashlib.sha256()
    for array in garments.draw(600, 30, seed=3):
        digest.update(array.astype(array.dtype.newbyteorder("<")).tobytes())
    assert digest.hexdigest() == (
        "6190d824f4a22a8070400b256be8a09873d067a7c47e4241fc2cc2518f2e4238"
    )


def test_seeds_and_splits_differ():
    images, _, test_images, _ = garments.draw(50, 50, seed=0)
    assert not np.array_equal(images, garments.draw(50, 50, seed=1)[0])
    assert not np.array_equal(images, test_images)


def test_shapes_and_types(drawn):
    shapes = [(array.shape, array.dtype) for array in drawn]
    assert shapes == [
        ((5000, 28, 28), np.uint8),
        ((5000,), np.int64),
        ((1000, 28, 28), np.uint8),
        ((1000,), np.int64),
    ]


def test_default_sizes():
    assert garments.draw.__defaults__ == (20_000, 5_000, 0)


@pytest.mark.parametrize("n", [7, 100, 1003])
def test_classes_are_balanced_and_shuffled(n):
    _, labels, _, _ = garments.draw(n, 1)
    counts = np.bincount(labels, minlength=10)
    assert counts.max() - counts.min() <= 1
    assert not np.array_equal(labels, np.arange(n) % 10)


def test_the_classes_are_those_of_fashion_mnist():
    drawn = [
        garment.__name__.strip("_").replace("_", " ") for garment in garments.GARMENTS
    ]
    assert drawn == [label.replace("-", " ") for label in LABELS]


def test_no_picture_is_empty(drawn):
    assert (drawn[0].reshape(5000, -1) > 40).sum(axis=1).min() >= 15


def test_nearest_mean_finds_it_neither_easy_nor_hard(drawn):
    images, labels, test_images, test_labels = _flat(drawn)
    means = np.stack([images[labels == k].mean(axis=0) for k in range(10)])
    accuracy = (_squared(test_images, means).argmin(axis=1) == test_labels).mean()
    assert 0.6 <= accuracy <= 0.76


def test_nearest_neighbour_beats_nearest_mean(drawn):
    images, labels, test_images, test_labels = _flat(drawn)
    found = labels[_squared(test_images, images).argmin(axis=1)]
    assert 0.74 <= (found == test_labels).mean() <= 0.9


def _flat(drawn):
    images, labels, test_images, test_labels = drawn
    as_rows = [a.reshape(len(a), -1).astype(np.float32) for a in (images, test_images)]
    return as_rows[0], labels, as_rows[1], test_labels


def _squared(a, b):
    """Squared distances [len(a), len(b)] up to a constant per row of a."""
    return (b * b).sum(axis=1) - 2 * a @ b.T
