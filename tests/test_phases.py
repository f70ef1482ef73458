"""Phases after training: re-estimated statistics, 8 bits, folded."""

import numpy as np
import pytest

from bn_from_scratch import backends, phases

SETTINGS = {"batch_size": 64, "lr": 0.5, "progress": False}


def run(bn, data, **options):
    name = bn.__package__.rpartition(".")[2]
    options = {"max_epochs": 2, "dtype": "float64"} | SETTINGS | options
    return phases.train_in_phases(name, "scratch", data, **options)


def test_every_phase(bn, garments):
    found, trainer = run(bn, garments, reestimate=True, quantize_after=1)
    assert [p.phase for p in found] == [
        "trained, 1 epoch",
        "statistics re-estimated",
        "rounded to 8 bits",
        "fine-tuned in 8 bits, 1 epoch",
        "statistics re-estimated",
        "folded: no batch norm left",
    ]
    trained, anew, rounded, tuned, again, folded = (p.val_loss for p in found)
    assert trained != anew != rounded
    assert tuned < rounded and again != tuned
    assert folded == pytest.approx(again, rel=1e-9)
    assert not [name for name in trainer.get_weights() if name.startswith("bn")]


def test_micro_batches_in_every_phase(garments):
    bn = backends.load(backends.installed()[0], "float64")
    found, _ = run(bn, garments, quantize_after=1, accumulate=2)
    tuned, folded = (p.val_loss for p in found[-2:])
    assert folded == pytest.approx(tuned, rel=1e-9)


def test_of_three_epochs_two_are_fine_tuned(garments, monkeypatch):
    """From the weights that were trained, on batches of their own; each gamma learns
    in spite of its 8 bits, and the averages wait for no other micro-batch."""
    bn, fits = backends.load(backends.installed()[0], "float64"), []

    class Watched(bn.Trainer):
        def fit(self, model, data, weights=None):
            history = super().fit(model, data, weights)
            batches = data.train_batches(self.batch_size, self.seed, 0)
            order = np.concatenate([y for _, y in batches])
            fits.append((order, weights, self.get_weights()))
            return history

    monkeypatch.setattr(bn, "Trainer", Watched)
    options = {"max_epochs": 3, "quantize_after": 1, "accumulate": 2}
    found, _ = run(bn, garments.take(train=128, test=20), **options)
    assert [p.phase for p in found] == [
        "trained, 1 epoch",
        "rounded to 8 bits",
        "fine-tuned in 8 bits, 2 epochs",
        "folded: no batch norm left",
    ]
    (order, _, trained), (other_order, start, end) = fits
    assert not np.array_equal(order, other_order)
    for name, v in trained.items():
        np.testing.assert_array_equal(start[name], v)
    for name in ("bn1.gamma", "bn4.beta"):
        assert np.abs(end[name] - start[name]).min() > 0, name
    assert not end["bn1.accumulated_mean"].any()


def test_without_further_phases_it_is_training(garments):
    bn = backends.load(backends.installed()[0], "float64")
    (found,), trainer = run(bn, garments)
    assert found.phase == "trained, 2 epochs"
    assert (found.val_loss, found.val_accuracy) == trainer.evaluate(garments)


@pytest.mark.parametrize("epoch", [0, 2])
def test_an_epoch_that_is_none(epoch, garments):
    message = f"^quantize_after must be at least 1 and below max_epochs=2; got {epoch}$"
    with pytest.raises(ValueError, match=message):
        phases.train_in_phases(
            "torch", "scratch", garments, max_epochs=2, quantize_after=epoch
        )


def test_the_table():
    found = [phases.Phase("trained, 1 epoch", 0.5, 1.25)]
    assert phases.render(found).splitlines()[-1].split() == [
        *("trained,", "1", "epoch"),
        *("0.5000", "1.2500"),
    ]
