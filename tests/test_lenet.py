"""LeNet: the same network, the same weights, the same logits in every backend."""

import functools

import numpy as np
import pytest

from bn_from_scratch import backends, lenet
from bn_from_scratch.backends.norms import norm_layer

NAMES = [
    f"{layer}.{parameter}"
    for layer, parameters in {
        "conv1": ("weight", "bias"),
        "bn1": ("gamma", "beta", "moving_mean", "moving_var"),
        "conv2": ("weight", "bias"),
        "bn2": ("gamma", "beta", "moving_mean", "moving_var"),
        "dense1": ("weight", "bias"),
        "bn3": ("gamma", "beta", "moving_mean", "moving_var"),
        "dense2": ("weight", "bias"),
        "bn4": ("gamma", "beta", "moving_mean", "moving_var"),
        "dense3": ("weight", "bias"),
    }.items()
    for parameter in parameters
]


def prepared(bn, norm, **options):
    trainer = bn.Trainer(progress=False)
    trainer.prepare(bn.LeNet(norm_layer(bn, norm), dtype="float64", **options))
    return trainer


@pytest.mark.parametrize(
    ("norm", "count"), [("none", 44_426), ("scratch", 44_878), ("builtin", 44_878)]
)
def test_number_of_parameters(bn, norm, count):
    weights = prepared(bn, norm).get_weights()
    assert sum(w.size for name, w in weights.items() if "moving" not in name) == count


def test_names_order_and_initial_values(bn, norm):
    weights = prepared(bn, norm, seed=3).get_weights()
    assert list(weights) == NAMES
    for name, value in lenet.initial_weights(seed=3, dtype="float64").items():
        np.testing.assert_array_equal(weights[name], value)
        assert weights[name].flags.c_contiguous


def test_bnlenet_is_lenet_with_our_norm(bn):
    trainer = bn.Trainer(progress=False)
    trainer.prepare(bn.BNLeNet(dtype="float64"))
    assert list(trainer.get_weights()) == NAMES


def test_weights_come_out_as_they_went_in(bn, norm):
    trainer, rng = prepared(bn, norm), np.random.default_rng(0)
    weights = {
        name: rng.uniform(0.5, 2, w.shape) for name, w in trainer.get_weights().items()
    }
    trainer.set_weights(weights)
    for name, value in trainer.get_weights().items():
        np.testing.assert_array_equal(value, weights[name])


@functools.cache
def reference_logits():
    """What the first installed backend answers with random weights and statistics."""
    return logits_of(backends.load(backends.installed()[0], "float64"), "scratch")


def logits_of(bn, norm):
    trainer, rng = prepared(bn, norm), np.random.default_rng(0)
    weights = {}
    for name, w in trainer.get_weights().items():
        fan_in = max(1, w[0].size)  # scaled so that no layer loses its input
        weights[name] = rng.normal(0, 8 / np.sqrt(fan_in), w.shape)
        if name.endswith(("gamma", "moving_var")):
            weights[name] = rng.uniform(0.5, 2, w.shape)
    trainer.set_weights(weights)
    return trainer.logits(rng.normal(0, 1, (4, *lenet.IMAGE)))


def test_all_backends_give_the_same_logits(bn, norm):
    """Asymmetric weights: a transposed kernel or a permuted row would show."""
    expected = reference_logits()
    assert np.ptp(expected, axis=0).min() > 0.01  # or a wrong layer would not show
    np.testing.assert_allclose(logits_of(bn, norm), expected, rtol=1e-12)


def test_names_sort_as_the_network_reads():
    shuffled = [*reversed(NAMES), "extra.kernel"]
    assert sorted(shuffled, key=lenet.position) == [*NAMES, "extra.kernel"]


@pytest.mark.parametrize("name", [*lenet.initial_weights(), "bn1.gamma"])
def test_layouts_are_inverse(name):
    weights = lenet.initial_weights() | {"bn1.gamma": np.arange(6.0)}
    there = lenet.to_channels_last(name, weights[name])
    np.testing.assert_array_equal(lenet.to_channels_first(name, there), weights[name])


def test_dense1_reads_height_width_channel():
    """A flattened [H, W, C] times the permuted rows is [C, H, W] times the old ones."""
    rng, w = np.random.default_rng(0), lenet.initial_weights()["dense1.weight"]
    X = rng.normal(size=lenet.FLATTENED)
    permuted = lenet.to_channels_last("dense1.weight", w)
    np.testing.assert_allclose(
        np.moveaxis(X, 0, -1).reshape(-1) @ permuted, w @ X.reshape(-1), rtol=1e-5
    )


def test_initial_weights_are_xavier_uniform():
    w = lenet.initial_weights(seed=1, dtype="float64")["conv2.weight"]
    limit = np.sqrt(6 / ((6 + 16) * 25))
    assert np.abs(w).max() <= limit
    np.testing.assert_allclose(w.std(), limit / np.sqrt(3), rtol=0.05)
    again = lenet.initial_weights(seed=1, dtype="float64")["conv2.weight"]
    np.testing.assert_array_equal(w, again)
    assert not np.array_equal(w, lenet.initial_weights(seed=2)["conv2.weight"])
