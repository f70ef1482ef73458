"""Statistics taken anew: those of all values, in every framework."""

import functools

import numpy as np
import pytest
from conftest import small_garments

from bn_from_scratch import backends, spec
from bn_from_scratch.backends.norms import norm_layer
from bn_from_scratch.surgery import reestimation
from bn_from_scratch.surgery.description import Description


def description(correction=0, axis=1):
    settings = {"axis": axis, "correction": correction}
    return Description("bn", "BatchNorm", False, 3, None, settings, {})


@pytest.mark.parametrize("correction", [0, 1])
@pytest.mark.parametrize("axis", [1, -1])
def test_the_pool_is_that_of_all_values(correction, axis):
    rng = np.random.default_rng(0)
    X = rng.normal(4, 2, (10, 3, 2, 5))
    norms = {"bn": description(correction, axis)}
    parts = [np.moveaxis(part, 1, axis) for part in (X[:3], X[3:4], X[4:])]
    batches = [{"bn": parts[:1]}, {"bn": parts[1:]}]  # called twice in a batch
    found = reestimation.pooled(batches, norms)["bn"]
    mean, var = spec.batch_stats(X)
    np.testing.assert_allclose(found["moving_mean"], mean, rtol=1e-13)
    var = var * 100 / (100 - correction)
    np.testing.assert_allclose(found["moving_var"], var, rtol=1e-12)


def trained(bn, norm, dtype="float64", **settings):
    settings = {"max_epochs": 1, "batch_size": 64, "progress": False} | settings
    trainer = bn.Trainer(**settings)
    trainer.fit(bn.LeNet(norm_layer(bn, norm), dtype=dtype), small_garments())
    return trainer


def inputs_of_the_first_norm(weights):
    """What bn1 sees of the whole training set.  -> [N, 6, 24, 24]"""
    X = small_garments().train_images / 255
    windows = np.lib.stride_tricks.sliding_window_view(X, (5, 5), axis=(1, 2))
    convolved = np.einsum("nhwij,cij->nchw", windows, weights["conv1.weight"][:, 0])
    return convolved + weights["conv1.bias"][:, None, None]


@pytest.mark.parametrize("batch_size", [64, 213])
def test_the_first_norm_gets_the_statistics_of_the_data_set(bn, norm, batch_size):
    trainer = trained(bn, norm, batch_size=batch_size)
    before = trainer.get_weights()
    trainer.reestimate(small_garments())
    after = trainer.get_weights()
    X = inputs_of_the_first_norm(before)
    mean, var = spec.batch_stats(X)
    n = spec.values_per_channel(X.shape)
    var = spec.unbiased(
        var, n, bn.builtin_setting().get("correction", 0) * (norm == "builtin")
    )
    np.testing.assert_allclose(after["bn1.moving_mean"], mean, rtol=1e-10)
    np.testing.assert_allclose(after["bn1.moving_var"], var, rtol=1e-10)
    for name, v in before.items():
        assert np.array_equal(after[name], v) == ("moving" not in name), name


@functools.cache
def reference():
    """The statistics that the first framework finds."""
    trainer = trained(backends.load(backends.installed()[0], "float64"), "scratch")
    trainer.reestimate(small_garments())
    return trainer.get_weights()


def test_every_framework_finds_the_same(bn):
    trainer = trained(bn, "scratch")
    trainer.reestimate(small_garments())
    for name, v in trainer.get_weights().items():
        np.testing.assert_allclose(
            v, reference()[name], rtol=0, atol=1e-10, err_msg=name
        )


def test_it_helps_a_network_whose_averages_lag_behind(bn):
    """With a momentum of 0.001 the averages hardly move in ten steps."""
    trainer = bn.Trainer(max_epochs=1, batch_size=64, progress=False, lr=0.5)
    norm = functools.partial(bn.BatchNorm, momentum=0.001)
    trainer.fit(bn.LeNet(norm), small_garments())
    lagging, _ = trainer.evaluate(small_garments())
    trainer.reestimate(small_garments())
    assert trainer.evaluate(small_garments())[0] < 0.95 * lagging
