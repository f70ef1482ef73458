"""What only JAX has: collections, init, jit, float64 by choice."""

import os
import subprocess
import sys

import numpy as np
import pytest
from conftest import load_or_skip
from tolerances import TOLERANCE

bn = load_or_skip("jax")
jax = pytest.importorskip("jax")
jnp = jax.numpy
X = np.random.default_rng(0).normal(3, 2, (9, 5)).astype("float32")


def start(layer):
    return layer.init(jax.random.key(0), X, training=True)


def test_state_lives_in_two_collections():
    shapes = jax.tree.map(jnp.shape, start(bn.BatchNorm(5, 2)))
    assert shapes == {
        "params": {"gamma": (5,), "beta": (5,)},
        "batch_stats": {"moving_mean": (5,), "moving_var": (5,)},
    }


def test_init_is_no_training_step():
    stats = start(bn.BatchNorm(5, 2))["batch_stats"]
    np.testing.assert_array_equal(stats["moving_mean"], np.zeros(5))
    np.testing.assert_array_equal(stats["moving_var"], np.ones(5))


def test_training_under_jit_returns_the_moved_statistics():
    layer = bn.BatchNorm(5, 2)

    @jax.jit
    def step(variables, X):
        return layer.apply(variables, X, training=True, mutable=["batch_stats"])

    _, moved = step(start(layer), X)
    moving_mean = moved["batch_stats"]["moving_mean"]
    np.testing.assert_allclose(moving_mean, 0.1 * X.mean(0), rtol=1e-5)


def test_the_moved_statistics_carry_no_gradient():
    one, zero = jnp.ones(5), jnp.zeros(5)

    def moved(X):
        _, mean, var = bn.batch_norm(X, one, zero, zero, one, training=True)
        return (mean + var).sum()

    np.testing.assert_array_equal(jax.grad(moved)(X), np.zeros_like(X))


def test_state_survives_a_file(tmp_path):
    from flax import serialization

    layer = bn.BatchNorm(5, 2)
    variables = start(layer)
    _, moved = layer.apply(variables, X, training=True, mutable=["batch_stats"])
    variables = variables | moved
    (tmp_path / "layer.msgpack").write_bytes(serialization.to_bytes(variables))
    content = (tmp_path / "layer.msgpack").read_bytes()
    restored = serialization.from_bytes(start(layer), content)
    np.testing.assert_array_equal(
        layer.apply(restored, X, training=False),
        layer.apply(variables, X, training=False),
    )


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_16_bit_input(dtype):
    layer, half = bn.BatchNorm(5, 2), jnp.asarray(100 * X, dtype)
    options = {"training": True, "mutable": ["batch_stats"]}
    Y, _ = layer.apply(start(layer), half, **options)
    want, _ = layer.apply(start(layer), half.astype("float32"), **options)
    assert Y.dtype == dtype
    difference = jnp.abs(Y.astype("float32") - want).max() / jnp.abs(want).max()
    assert difference <= TOLERANCE[dtype]


def test_float64_without_x64_is_an_error():
    code = """
from bn_from_scratch import jax as bn
try:
    bn.Trainer().prepare(bn.BNLeNet(dtype="float64"))
except ValueError as error:
    print(error)
"""
    environment = {k: v for k, v in os.environ.items() if k != "JAX_ENABLE_X64"}
    answer = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert answer.stdout == (
        "a float64 model came out as float32: "
        "jax.config.update('jax_enable_x64', True) before it is made\n"
    )
