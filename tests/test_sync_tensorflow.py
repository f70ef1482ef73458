"""SyncBatchNorm in TensorFlow: replicas against one layer on the joined batch.

TensorFlow wants to know its devices before it starts, and cannot have two groups of
replicas of different size: so these tests run in a process for each size, which the
last one starts.
"""

import functools
import os
import subprocess
import sys

import numpy as np
import pytest
from conftest import load_or_skip

bn = load_or_skip("tensorflow")
tf = pytest.importorskip("tensorflow")
keras = pytest.importorskip("keras")
IN_A_PROCESS = "TEST_SYNC_TENSORFLOW"
REPLICAS = int(os.environ.get(IN_A_PROCESS, 0))
STEPS = 3
if REPLICAS:
    CPU = tf.config.list_physical_devices("CPU")[0]
    PARTS = [tf.config.LogicalDeviceConfiguration()] * REPLICAS
    tf.config.set_logical_device_configuration(CPU, PARTS)
needs_devices = pytest.mark.skipif(
    not REPLICAS, reason="test_in_a_process_with_devices runs it"
)
SHARDS = {  # numbers of examples
    "equal": [2, 2, 2, 2],
    "unequal": [5, 1, 2, 3],
    "the first is empty": [0, 3, 1, 2],
    "the last is empty": [3, 4, 1, 0],
    "one example each": [1, 1, 1, 1],
}


def shards_of(sizes):
    """The same for the replicas that there are."""
    return sizes if len(sizes) == REPLICAS else [sizes[0], sizes[-1]]


@functools.cache
def strategy_of(replicas):
    return tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(replicas)])


def a_layer(make=bn.SyncBatchNorm, **options):
    rng = np.random.default_rng(1)
    layer = make(5, dtype="float64", **options)
    layer.build((None, 3, 5))
    layer.gamma.assign(rng.normal(1, 0.3, 5))
    layer.beta.assign(rng.normal(0, 1, 5))
    return layer


def a_batch(size):
    """X, dY and a mask; the examples differ in mean, and so do the shards."""
    rng = np.random.default_rng(0)
    X, dY = rng.normal(3, 2, (2, size, 3, 5))
    X += np.arange(size).reshape(-1, 1, 1)
    return X, dY, rng.random((size, 3)) < 0.8


def step_of(layer, masked=False, unknown=False):
    def step(X, dY, mask):
        if unknown:  # as in `fit`, which traces one graph for batches of all sizes
            shape = [None, *X.shape[1:]]
            X = tf.raw_ops.PlaceholderWithDefault(input=X, shape=shape)
        wanted = X, layer.gamma.value, layer.beta.value
        with tf.GradientTape() as tape:
            tape.watch(X)
            Y = layer(X, training=True, mask=mask if masked else None)
        return Y, *tape.gradient(Y, wanted, dY)

    return step


def joined_run(batch, **options):
    layer = a_layer(bn.BatchNorm)
    step = step_of(layer, **options)
    for _ in range(STEPS):
        results = step(*map(tf.constant, batch))
    return [v.numpy() for v in (*results, layer.moving_mean, layer.moving_var)]


def replicated_run(batch, sizes, make=bn.SyncBatchNorm, compiled=True, **options):
    strategy, cuts = strategy_of(len(sizes)), np.cumsum(sizes)[:-1]
    with strategy.scope():
        layer = a_layer(make)
    step = step_of(layer, **options)
    shards = [np.split(v, cuts) for v in batch]

    def distributed(parts):
        def part(context):
            return tf.constant(parts[context.replica_id_in_sync_group])

        return strategy.experimental_distribute_values_from_function(part)

    def run(*batch):
        return strategy.run(step, args=batch)

    run = tf.function(run) if compiled else run
    for _ in range(STEPS):
        results = run(*map(distributed, shards))
    Y, dX, dgamma, dbeta = map(strategy.experimental_local_results, results)
    moving = layer.moving_mean, layer.moving_var
    for v in moving:
        for own in strategy.experimental_local_results(v.value):
            np.testing.assert_array_equal(own.numpy(), v.numpy())
    joined = [tf.concat(Y, 0), tf.concat(dX, 0), sum(dgamma), sum(dbeta), *moving]
    return [v.numpy() for v in joined]


def assert_same(got, want, tolerance=1e-12):
    names = "Y", "dX", "dgamma", "dbeta", "moving_mean", "moving_var"
    for name, value, wanted in zip(names, got, want, strict=True):
        off = np.max(np.abs(value - wanted)) / np.max(np.abs(wanted))
        assert off <= tolerance, f"{name} differs by {off:.1e}"


@needs_devices
@pytest.mark.parametrize("options", [{}, {"masked": True}, {"unknown": True}], ids=str)
@pytest.mark.parametrize("sizes", SHARDS.values(), ids=SHARDS)
def test_replicas_are_one_layer_on_the_joined_batch(sizes, options):
    sizes = shards_of(sizes)
    batch = a_batch(sum(sizes))
    masked = {"masked": options.get("masked", False)}
    assert_same(replicated_run(batch, sizes, **options), joined_run(batch, **masked))


@needs_devices
def test_without_a_graph():
    sizes = shards_of([3, 2, 1, 2])
    batch = a_batch(sum(sizes))
    assert_same(replicated_run(batch, sizes, compiled=False), joined_run(batch))


@needs_devices
def test_the_core_does_not_synchronize():
    """So that the tests above can fail."""
    sizes = shards_of([5, 1, 2, 3])
    batch = a_batch(sum(sizes))
    got = replicated_run(batch, sizes, make=bn.BatchNorm)
    with pytest.raises(AssertionError, match="Y differs"):
        assert_same(got, joined_run(batch), tolerance=0.01)


@needs_devices
def test_one_replica_is_the_core():
    batch = a_batch(8)
    got = replicated_run(batch, [8], compiled=False)
    assert_same(got, joined_run(batch), tolerance=0)


@needs_devices
def test_in_a_scope_but_not_in_run_it_is_the_core():
    X = tf.constant(a_batch(8)[0])
    with strategy_of(REPLICAS).scope():
        layer, core = a_layer(), a_layer(bn.BatchNorm)
        np.testing.assert_array_equal(layer(X, training=True), core(X, training=True))


@needs_devices
def test_fit_on_replicas_is_fit_on_one():
    X, dY, _ = (v.astype("float64") for v in a_batch(8))

    def fitted():
        layer = a_layer()
        model = keras.Sequential([keras.Input((3, 5), dtype="float64"), layer])
        model.compile(keras.optimizers.SGD(0.1), "mse")
        model.fit(X, dY, batch_size=8, epochs=3, shuffle=False, verbose=0)
        return model.get_weights()

    alone = fitted()
    with strategy_of(REPLICAS).scope():
        for got, want in zip(fitted(), alone, strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-5)


FOUR = pytest.param(4, marks=pytest.mark.slow)


@pytest.mark.parametrize("replicas", [2, FOUR])
def test_in_a_process_with_devices(replicas):
    answer = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-k", "not process", __file__],
        env=os.environ | {IN_A_PROCESS: str(replicas)},
        capture_output=True,
        text=True,
    )
    assert answer.returncode == 0, answer.stdout
    assert "skipped" not in answer.stdout
