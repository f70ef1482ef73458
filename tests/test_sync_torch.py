"""SyncBatchNorm in PyTorch: several processes against one with the joined batch."""

from multiprocessing import get_all_start_methods, set_forkserver_preload

import numpy as np
import pytest
from conftest import load_or_skip
from tolerances import TOLERANCE

from bn_from_scratch.case import difference, make_case

bn = load_or_skip("torch")
replicas = pytest.importorskip("replicas")
torch = pytest.importorskip("torch")
pytest.importorskip("torch.distributed")
# Where the system can, one server imports PyTorch and every process is a fork of it.
START = "forkserver" if "forkserver" in get_all_start_methods() else "spawn"
PRELOADED = ["pytest", "torch.distributed", "bn_from_scratch.backends.torch.interface"]


def run_replicas(folder, shards, **options):
    world = len(shards)
    arguments = (world, str(folder), shards, options)
    set_forkserver_preload(PRELOADED)
    torch.multiprocessing.start_processes(
        replicas.replica, arguments, nprocs=world, start_method=START
    )
    return [dict(np.load(folder / f"{rank}.npz")) for rank in range(world)]


def joined(rows=slice(None), **options):
    X, dY, state = make_case(replicas.SHAPE)
    layer = bn.BatchNorm(5, 3, dtype="float64", **options)
    mode = {"training": True, "steps": replicas.STEPS}
    return bn.probe(layer, X[rows], dY[rows], **mode, state=state)


def assert_one_batch(parts, whole):
    """Together the replicas have what one process has."""
    got = {name: np.concatenate([part[name] for part in parts]) for name in ("Y", "dX")}
    got |= {name: sum(part[name] for part in parts) for name in ("dgamma", "dbeta")}
    for name, value in got.items():
        assert difference(value, whole[name]) <= TOLERANCE["float64"], name
    for part in parts:
        for name in ("moving_mean", "moving_var"):
            assert difference(part[name], whole[name]) <= TOLERANCE["float64"], name


@pytest.mark.parametrize(
    "shards",
    [
        [(0, 6), (6, 12)],
        [(0, 5), (5, 6), (6, 6), (6, 12)],  # unequal, one example, none at all
    ],
    ids=["2", "4 unequal"],
)
def test_replicas_are_one_batch(tmp_path, shards):
    parts = run_replicas(tmp_path, shards, correction=1)
    assert_one_batch(parts, joined(correction=1))


def test_the_group_is_the_batch(tmp_path):
    """Two groups of two: each normalizes by itself."""
    shards = [(0, 2), (2, 7), (7, 10), (10, 12)]
    parts = run_replicas(tmp_path, shards, groups=[[0, 1], [2, 3]])
    assert_one_batch(parts[:2], joined(slice(0, 7)))
    assert_one_batch(parts[2:], joined(slice(7, 12)))


def test_without_a_process_group_it_is_the_core():
    X, dY, state = make_case(replicas.SHAPE)
    layer = bn.SyncBatchNorm(5, 3, dtype="float64")
    got = bn.probe(layer, X, dY, training=True, steps=replicas.STEPS, state=state)
    for name, value in joined().items():
        np.testing.assert_array_equal(got[name], value)
