"""Fixtures.  The first test that needs a backend loads it; absent ones are skipped."""

import functools

import pytest

from bn_from_scratch import backends, data


@pytest.fixture(params=backends.NAMES)
def bn(request):
    """One backend after the other, ready for float64."""
    return load_or_skip(request.param)


def load_or_skip(name):
    if lacking := backends.missing(name):
        reason = f"{name}: {', '.join(lacking)} is not installed"
        pytest.skip(reason, allow_module_level=True)
    return backends.load(name, dtype="float64")


@pytest.fixture(params=["scratch", "builtin"])
def norm(request):
    return request.param


@functools.cache
def small_garments():
    """A small data set that needs no file and no network."""
    return data.load("garments").take(train=640, test=300)


@pytest.fixture
def garments():
    return small_garments()
