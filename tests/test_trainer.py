"""Training: one trajectory in every backend, and what a Trainer promises."""

import functools

import numpy as np
import pytest
from conftest import small_garments
from tolerances import TRAJECTORY

from bn_from_scratch import backends, lenet, spec, training
from bn_from_scratch.backends.norms import norm_layer


def train(bn, norm="scratch", dtype="float64", seed=0, weights=None, **options):
    settings = {"max_epochs": 2, "batch_size": 32, "progress": False} | options
    trainer = bn.Trainer(**settings)
    model = bn.LeNet(norm_layer(bn, norm), seed, dtype)
    history = trainer.fit(model, small_garments(), weights)
    return trainer, history, trainer.predict(small_garments())


@functools.cache
def reference():
    return train(backends.load(backends.installed()[0], "float64"))


def test_one_trajectory(bn, norm):
    """40 steps from the same weights on the same batches: the same losses."""
    _, history, logits = train(bn, norm)
    _, expected, expected_logits = reference()
    np.testing.assert_allclose(history.loss, expected.loss, atol=TRAJECTORY[norm])
    if norm == "scratch":
        np.testing.assert_allclose(logits, expected_logits, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(history.val_loss, expected.val_loss, rtol=1e-9)
        assert history.val_accuracy == expected.val_accuracy


def test_it_learns(bn, norm):
    _, history, _ = train(bn, norm, "float32", max_epochs=3)
    assert np.mean(history.loss[-5:]) < 0.7 * np.mean(history.loss[:5])


def test_a_network_with_the_fused_layer(bn):
    """In float32, whose convolutions leave their output in oneDNN's layout."""
    options = {"dtype": "float32", "max_epochs": 1, "batch_size": 16}
    losses = [train(bn, norm, **options)[1].loss for norm in ("fused", "scratch")]
    np.testing.assert_allclose(*losses, atol=1e-5)


def test_compiled_and_eager_steps_agree(bn):
    options = {"max_epochs": 1, "batch_size": 213}
    losses = [train(bn, **options, compile=c)[1].loss for c in (False, None)]
    np.testing.assert_allclose(*losses, atol=1e-12)


def test_adam_is_the_frameworks_own(bn):
    _, history, _ = train(bn, dtype="float32", optimizer="adam", lr=0.01)
    _, sgd, _ = train(bn, dtype="float32", lr=0.01)
    assert history.loss[0] == sgd.loss[0]
    assert history.loss[-1] < sgd.loss[-1]


def with_inertia(bn):
    """SGD with momentum 0.9, as each framework makes it."""
    name = bn.__package__.rpartition(".")[2]
    if name == "torch":
        import torch

        return functools.partial(torch.optim.SGD, momentum=0.9)
    if name == "tensorflow":
        import keras

        return functools.partial(keras.optimizers.SGD, momentum=0.9)
    if name == "jax":
        import optax

        return functools.partial(optax.sgd, momentum=0.9)
    import mxnet

    return functools.partial(mxnet.optimizer.SGD, momentum=0.9)


def test_any_optimizer_of_the_framework(bn):
    """Two steps of SGD with momentum, the second of which tells it from plain SGD."""
    options = {"max_epochs": 1, "batch_size": 213, "dtype": "float32"}
    _, history, _ = train(bn, **options, optimizer=with_inertia(bn))
    _, plain, _ = train(bn, **options)
    np.testing.assert_allclose(history.loss[:2], plain.loss[:2], rtol=1e-5)
    assert abs(history.loss[2] - plain.loss[2]) > 1e-3


def test_fit_starts_from_given_weights(bn):
    """A model drawn from another seed forgets it and follows the same curve."""
    start = bn.Trainer(progress=False)
    start.prepare(bn.BNLeNet(dtype="float64"))
    options = {"max_epochs": 1, "seed": 5}
    _, history, _ = train(bn, **options, weights=start.get_weights())
    _, expected, _ = train(bn, max_epochs=1)
    assert history.loss == expected.loss


def test_prediction_does_not_depend_on_the_batch(bn):
    trainer, _, _ = train(bn, max_epochs=1)
    X = np.random.default_rng(0).uniform(0, 1, (8, 1, 28, 28))
    alone = np.concatenate([trainer.logits(x[None]) for x in X])
    np.testing.assert_allclose(trainer.logits(X), alone, atol=1e-12)


def test_activations_of_each_layer(bn, norm):
    """Channels first everywhere, and in prediction: the last are the logits."""
    trainer, _, logits = train(bn, norm, max_epochs=1)
    X, _ = next(small_garments().test_batches(8, "float64"))
    found = trainer.activations(X)
    assert list(found) == lenet.LAYERS
    assert found["conv1"].shape == found["bn1"].shape == (8, 6, 24, 24)
    assert found["conv2"].shape == (8, 16, 8, 8) and found["dense1"].shape == (8, 120)
    np.testing.assert_allclose(found["dense3"], logits[:8], rtol=1e-10)
    weights, sizes = trainer.get_weights(), (1, 6, 1, 1)
    mean, var, gamma, beta = (
        weights[f"bn1.{name}"].reshape(sizes)
        for name in ("moving_mean", "moving_var", "gamma", "beta")
    )
    Y = spec.normalize(found["conv1"], mean, var, gamma, beta, 1e-5)
    np.testing.assert_allclose(found["bn1"], Y, rtol=1e-10, atol=1e-12)


def test_evaluation_leaves_the_weights_alone(bn, norm):
    trainer, _, _ = train(bn, norm, max_epochs=1)
    before = trainer.get_weights()
    trainer.logits(np.ones((8, 1, 28, 28)))
    for name, value in trainer.get_weights().items():
        np.testing.assert_array_equal(value, before[name])


def test_weights_that_were_taken_stay_as_they_were(bn):
    """While the model goes on: they are copies."""
    trainer = bn.Trainer(progress=False)
    trainer.prepare(bn.BNLeNet(dtype="float64"))
    taken = trainer.get_weights()
    before = {name: w.copy() for name, w in taken.items()}
    rng = np.random.default_rng(0)
    trainer.train_step(rng.uniform(0, 1, (8, 1, 28, 28)), np.arange(8))
    for name, w in taken.items():
        np.testing.assert_array_equal(w, before[name])
    assert not np.array_equal(trainer.get_weights()["bn1.gamma"], taken["bn1.gamma"])


def test_a_gpu_that_is_not_there(bn):
    trainer = bn.Trainer(device="auto", progress=False)
    trainer.prepare(bn.LeNet())
    if trainer.device_used == "gpu":
        pytest.skip("this machine has a GPU")
    with pytest.raises(ValueError, match=r"^device gpu was asked for; \w+ finds none$"):
        bn.Trainer(device="gpu").prepare(bn.LeNet())


# --- Accumulated gradients: what equals the joined batch, and what cannot -------------


def one_step(bn, norm, accumulate, batch_size=42):
    """One step in so many micro-batches; 42 is no multiple of 4."""
    settings = {"max_epochs": 1, "batch_size": batch_size, "progress": False}
    trainer = bn.Trainer(**settings, accumulate=accumulate)
    trainer.prepare(bn.LeNet(norm, dtype="float64"))
    X, y = next(small_garments().train_batches(batch_size, 0, 0, "float64"))
    return float(trainer.train_step(X, y)), trainer.get_weights()


def test_without_batch_norm_the_step_is_that_of_the_joined_batch(bn):
    for norm in (None, bn.LayerNorm):
        loss, weights = one_step(bn, norm, accumulate=4)
        joined_loss, joined = one_step(bn, norm, accumulate=1)
        assert loss == pytest.approx(joined_loss, rel=1e-12)
        for name in joined:
            np.testing.assert_allclose(weights[name], joined[name], rtol=0, atol=1e-12)


def test_with_batch_norm_the_first_statistics_are_those_of_the_joined_batch(bn):
    """The first norm sees the same values; the others see what it made of them."""
    accumulating = functools.partial(bn.AccumBatchNorm, steps=4)
    loss, weights = one_step(bn, accumulating, accumulate=4)
    joined_loss, joined = one_step(bn, bn.BatchNorm, accumulate=1)
    assert abs(loss - joined_loss) > 1e-4
    for name in ("moving_mean", "moving_var"):
        same, other = (f"{layer}.{name}" for layer in ("bn1", "bn2"))
        np.testing.assert_allclose(weights[same], joined[same], rtol=1e-12)
        assert np.abs(weights[other] - joined[other]).max() > 1e-6


def test_accumulated_steps_train(bn):
    accumulating = functools.partial(bn.AccumBatchNorm, steps=2)
    settings = {"max_epochs": 3, "batch_size": 32, "progress": False}
    trainer = bn.Trainer(**settings, accumulate=2)
    loss = trainer.fit(bn.LeNet(accumulating), small_garments()).loss
    assert np.mean(loss[-5:]) < 0.7 * np.mean(loss[:5])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"accumulate": 0}, "accumulate must be at least 1; got 0"),
        (
            {"accumulate": 9, "batch_size": 8},
            "a batch of 8 has no 9 micro-batches",
        ),
    ],
)
def test_impossible_micro_batches(settings, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        training.Trainer(**settings)
