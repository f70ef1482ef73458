"""SyncBatchNorm in PyTorch: several processes against one with the joined batch."""

import numpy as np
import pytest
from conftest import load_or_skip
from tolerances import TOLERANCE

from bn_from_scratch.case import difference, make_case

bn = load_or_skip("torch")
torch = pytest.importorskip("torch")
distributed = pytest.importorskip("torch.distributed")
STEPS = 3


def replica(rank, world, folder, shards, options):
    """One process: its rows of the batch, and what it computed, in a file."""
    rendezvous = f"file://{folder}/rendezvous"
    distributed.init_process_group("gloo", rendezvous, rank=rank, world_size=world)
    torch.set_num_threads(1)
    groups = options.pop("groups", None)
    if groups:  # every process must make every group
        made = [distributed.new_group(ranks) for ranks in groups]
        options["group"] = next(
            g for g, ranks in zip(made, groups, strict=True) if rank in ranks
        )
    X, dY, state = make_case((12, 5, 4))
    rows = slice(*shards[rank])
    layer = bn.SyncBatchNorm(5, 3, dtype="float64", **options)
    got = bn.probe(layer, X[rows], dY[rows], training=True, steps=STEPS, state=state)
    np.savez(f"{folder}/{rank}.npz", **got)
    distributed.barrier()  # a process that leaves early aborts the others
    distributed.destroy_process_group()


def run_replicas(folder, shards, **options):
    world = len(shards)
    arguments = (world, str(folder), shards, options)
    torch.multiprocessing.spawn(replica, arguments, nprocs=world)
    return [dict(np.load(folder / f"{rank}.npz")) for rank in range(world)]


def joined(rows=slice(None), **options):
    X, dY, state = make_case((12, 5, 4))
    layer = bn.BatchNorm(5, 3, dtype="float64", **options)
    mode = {"training": True, "steps": STEPS}
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
    X, dY, state = make_case((12, 5, 4))
    layer = bn.SyncBatchNorm(5, 3, dtype="float64")
    got = bn.probe(layer, X, dY, training=True, steps=STEPS, state=state)
    for name, value in joined().items():
        np.testing.assert_array_equal(got[name], value)
