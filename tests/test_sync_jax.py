"""SyncBatchNorm in JAX: replicas against one layer on the joined batch.

JAX wants to know its devices before it starts, so most of these tests run in a process
of their own, which the last one starts.
"""

import functools
import os
import subprocess
import sys
from functools import partial

import numpy as np
import pytest
from conftest import load_or_skip

bn = load_or_skip("jax")
jax = pytest.importorskip("jax")
jnp = jax.numpy
P = jax.sharding.PartitionSpec
DEVICES = 4
NAME = "replicas"
STEPS = 3
needs_devices = pytest.mark.skipif(
    jax.device_count() < DEVICES, reason="test_in_a_process_with_devices runs it"
)
rng = np.random.default_rng(0)
X, DY = rng.normal(3, 2, (2, 8, 3, 5))
X += np.arange(8).reshape(-1, 1, 1)  # replicas differ in mean
MASKS = {
    "equal shards": np.ones((8, 3), bool),
    "unequal shards": rng.random((8, 3)) < 0.6,
    "an empty shard": np.arange(24).reshape(8, 3) > 13,
}


CORE = bn.BatchNorm(5, dtype="float64")
SYNC = bn.SyncBatchNorm(5, dtype="float64", axis_name=NAME)


def variables():
    """Of either layer: the parameters, the statistics."""
    made = CORE.init(jax.random.key(0), X, training=True)
    made = jax.tree.map(lambda v: v + 0.3 * rng.random(v.shape), made)
    return made["params"], made["batch_stats"]


@partial(jax.jit, static_argnums=0)
def step(layer, params, stats, X, dY, mask):
    """-> Y, dX, gradients of the parameters, moved statistics."""

    def forward(params, X):
        variables = {"params": params, "batch_stats": stats}
        options = {"training": True, "mask": mask, "mutable": ["batch_stats"]}
        return layer.apply(variables, X, **options)

    Y, backward, moved = jax.vjp(forward, params, X, has_aux=True)
    dparams, dX = backward(dY * mask[..., None])
    return Y, dX, dparams, moved["batch_stats"]


def shard(v, replicas):
    return v.reshape(replicas, -1, *v.shape[1:])


def joined(v):
    return v.reshape(-1, *v.shape[2:])


def mapped(transform, step, replicas):
    """`step` over a leading axis of replicas, by vmap or by pmap."""
    wrapped = transform(step, axis_name=NAME, in_axes=(None, None, 0, 0, 0))

    def run(params, stats, *batch):
        shards = (shard(v, replicas) for v in batch)
        Y, dX, dparams, stats = wrapped(params, stats, *shards)
        for v in jax.tree.leaves(stats):
            np.testing.assert_array_equal(v, np.broadcast_to(v[0], v.shape))
        dparams = jax.tree.map(lambda v: v.sum(0), dparams)
        return joined(Y), joined(dX), dparams, jax.tree.map(lambda v: v[0], stats)

    return run


def shard_mapped(step, replicas):
    """Over devices; JAX itself sums the gradient of what all of them share."""
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:replicas]), (NAME,))
    split, shared = P(NAME), P()
    specs = {
        "in_specs": (shared, shared, split, split, split),
        "out_specs": (split, split, shared, shared),
    }
    return jax.jit(jax.shard_map(step, mesh=mesh, **specs))


ENGINES = {
    "vmap": partial(mapped, jax.vmap),
    "pmap": partial(mapped, jax.pmap),
    "shard_map": shard_mapped,
}


@functools.cache
def replicated(engine, layer, replicas):
    return ENGINES[engine](partial(step, layer), replicas)


def run(step, params, stats, *batch):
    for _ in range(STEPS):
        *results, stats = step(params, stats, *batch)
    return *results, stats


def assert_same(got, want, tolerance=1e-12):
    for name, a, b in zip(("Y", "dX", "dparams", "moving"), got, want, strict=True):
        for v, wanted in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
            off = np.max(np.abs(v - wanted)) / np.max(np.abs(wanted))
            assert off <= tolerance, f"{name} differs by {off:.1e}"


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
@pytest.mark.parametrize("replicas", [2, 4])
@pytest.mark.parametrize(
    "engine",
    [
        "vmap",
        pytest.param("pmap", marks=needs_devices),
        pytest.param("shard_map", marks=needs_devices),
    ],
)
def test_replicas_are_one_layer_on_the_joined_batch(engine, replicas, mask):
    batch = *variables(), X, DY, mask
    got = run(replicated(engine, SYNC, replicas), *batch)
    assert_same(got, run(partial(step, CORE), *batch))


@pytest.mark.parametrize("engine", ["vmap", "pmap"])
def test_one_replica_is_the_core(engine):
    """To one rounding: XLA compiles the two differently."""
    batch = *variables(), X, DY, MASKS["equal shards"]
    got, want = (replicated(engine, layer, 1) for layer in (SYNC, CORE))
    assert_same(run(got, *batch), run(want, *batch), tolerance=4e-16)


@needs_devices
def test_groups_of_replicas():
    """The first two and the last two, each as if they were alone."""
    layer = SYNC.clone(axis_index_groups=((0, 1), (2, 3)))
    (params, stats), batch = variables(), (X, DY, MASKS["unequal shards"])
    wrapped = jax.pmap(partial(step, layer), NAME, in_axes=(None, None, 0, 0, 0))
    Y, dX, dparams, moved = wrapped(params, stats, *(shard(v, 4) for v in batch))
    for first in (0, 2):
        pair, half = slice(first, first + 2), slice(2 * first, 2 * first + 4)
        want = step(CORE, params, stats, *(v[half] for v in batch))
        dpair = {name: v[pair].sum(0) for name, v in dparams.items()}
        own = {name: v[first + 1] for name, v in moved.items()}
        assert_same((joined(Y[pair]), joined(dX[pair]), dpair, own), want)


def test_one_value_in_each_replica_is_enough():
    batch = *variables(), X[:, 0], DY[:, 0], np.ones(8, bool)
    got = replicated("vmap", SYNC, 8)(*batch)
    assert_same(got, step(CORE, *batch))


def test_in_a_process_with_devices():
    flags = f"--xla_force_host_platform_device_count={DEVICES}"
    answer = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-k", "not (process or vmap)", __file__],
        env=os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
    )
    assert answer.returncode == 0, answer.stdout
    assert "skipped" not in answer.stdout
