"""How the tests run, and fixtures.

The first test that needs a backend loads it; absent ones are skipped.
"""

import functools
import gc
import os

import numpy as np
import properties  # noqa: F401, the default profile
import pytest
import scheduling

from bn_from_scratch import backends, data
from bn_from_scratch.surgery import folding, proof

pytest.register_assert_rewrite("whole_models")

# --- How the tests run ---------------------------------------------------------------

# A worker has one core: more threads would only wait for each other.  The frameworks
# read this when they are loaded; processes that a test starts inherit it.
ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "TF_NUM_INTRAOP_THREADS": "1",
    "TF_NUM_INTEROP_THREADS": "1",
}
for name, value in ONE_THREAD.items():
    os.environ.setdefault(name, value)


def pytest_configure(config):
    """JAX compiles each operation for each shape, once: the next run loads them."""
    cache = config.rootpath / ".pytest_cache" / "jax"
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")


def pytest_xdist_auto_num_workers(config):
    """Two for the whole suite; a file that is asked for by name runs right here."""
    return 0 if config.args_source == config.ArgsSource.ARGS else 2


def pytest_xdist_make_scheduler(config, log):
    if config.option.dist == "loadscope":
        return scheduling.FromBothEnds(config, log)


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: scheduling.place(item.nodeid))


def pytest_collection_finish():
    settle()


def pytest_runtest_setup(item):
    """A test draws the same numbers, whichever tests ran before it."""
    if hasattr(item.module, "rng"):
        item.module.rng = np.random.default_rng(0)


def settle():
    """What is loaded by now stays: the garbage collector need not look through it."""
    gc.collect()
    gc.freeze()


settle_after = functools.cache(lambda backend: settle())

# --- Fixtures ------------------------------------------------------------------------


@pytest.fixture(params=backends.NAMES)
def bn(request):
    """One backend after the other, ready for float64."""
    return load_or_skip(request.param)


def load_or_skip(name):
    if lacking := backends.missing(name):
        reason = f"{name}: {', '.join(lacking)} is not installed"
        pytest.skip(reason, allow_module_level=True)
    bn = backends.load(name, dtype="float64")
    settle_after(name)
    return bn


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
