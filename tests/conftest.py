"""Fixtures.  The first test that needs a backend loads it; absent ones are skipped."""

import functools

import pytest

from bn_from_scratch import backends, data
from bn_from_scratch.surgery import folding, proof


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


@pytest.fixture
def differences(monkeypatch):
    """What the proofs of surgery find, output by output."""
    found, prove = [], proof.prove

    def noted(*outputs):
        found.extend(prove(*outputs).values())

    monkeypatch.setattr(proof, "prove", noted)
    return found


SLIGHTLY = r"in prediction would change by \d\.\de-0[56] of"


@pytest.fixture
def slightly_wrong(monkeypatch):
    """Given a backend, fold(model, X) and replace(model, X) that change the output by
    some 1e-5 of its largest value: more than may be, and less than 16 bits show."""
    fold = folding.fold

    def folded(*operands):
        weight, bias = fold(*operands)
        return weight * 1.00003, bias

    monkeypatch.setattr(folding, "fold", folded)

    def surgeries(bn):
        def make(*sizes, eps, **settings):
            return bn.BatchNorm(*sizes, eps=eps + 2e-5, **settings)

        def replace(model, X, **variables):
            return bn.replace_batch_norm(model, make, X, **variables)

        return bn.fold_batch_norm, replace

    return surgeries
