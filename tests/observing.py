"""An answer observed in this process, where its framework is imported only once."""

import contextlib
import importlib
import json

import pytest

from bn_from_scratch import backends
from bn_from_scratch.checker import sandbox, verdict, worker


@contextlib.contextmanager
def ready(framework):
    """The framework loaded, or the test skipped; JAX in float32."""
    if framework != "numpy":
        if lacking := backends.missing(framework):
            pytest.skip(f"{framework}: {', '.join(lacking)} is not installed")
        backends.load(framework)
    if framework != "jax":
        yield
        return
    from bn_from_scratch.backends.jax.models.exact import enable_x64

    with enable_x64(False):  # other tests may have switched to float64
        yield


def findings(names, framework, wanted, file=None):
    """The Findings on an answer, {name: object}, of the tasks that are wanted."""
    adapter = importlib.import_module(f"bn_from_scratch.checker.adapters.{framework}")
    observed = {}
    for task in wanted:
        seen = worker.observe(task, names[task], framework, adapter, file)
        seen = json.loads(json.dumps(seen))  # as through the pipe of a process
        observed[task] = {k: sandbox.decode(v) for k, v in seen.items()}
    return verdict.find_all(observed, framework)
