"""What each process of tests/test_sync_torch.py runs; it loads PyTorch alone."""

import numpy as np
import torch
from torch import distributed

from bn_from_scratch import torch as bn
from bn_from_scratch.case import make_case

SHAPE = 12, 5, 4
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
    X, dY, state = make_case(SHAPE)
    rows = slice(*shards[rank])
    layer = bn.SyncBatchNorm(5, 3, dtype="float64", **options)
    got = bn.probe(layer, X[rows], dY[rows], training=True, steps=STEPS, state=state)
    np.savez(f"{folder}/{rank}.npz", **got)
    distributed.barrier()  # a process that leaves early aborts the others
    distributed.destroy_process_group()
