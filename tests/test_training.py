"""The epoch loop and the checkpoints, without any framework."""

import numpy as np
import pytest

from bn_from_scratch import training


class Softmax(training.Trainer):
    """A linear classifier in NumPy: the five methods a backend adds."""

    def prepare(self, model):
        self.model, self.dtype = model, "float64"

    def train_step(self, X, y):
        logits = self.logits(X)
        p = np.exp(logits - logits.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        p[np.arange(len(y)), y] -= 1
        self.model["w"] -= self.lr * p.T @ X.reshape(len(X), -1) / len(X)
        return training.cross_entropy(logits, y)

    def logits(self, X):
        return X.reshape(len(X), -1) @ self.model["w"].T

    def get_weights(self):
        return {name: w.copy() for name, w in self.model.items()}

    def write_weights(self, weights):
        self.model.update(weights)


def new_model():
    return {"w": np.zeros((10, 784))}


def test_history(garments):
    trainer = Softmax(max_epochs=3, batch_size=100, progress=False)
    history = trainer.fit(new_model(), garments)
    assert len(history.loss) == 3 * 6  # 640 images: six whole batches
    assert len(history.val_loss) == len(history.val_accuracy) == 3
    np.testing.assert_allclose(history.loss[0], np.log(10), rtol=1e-12)
    assert history.val_loss[-1] < history.val_loss[0] < np.log(10)
    assert history.val_accuracy[-1] > 0.5
    assert history.seconds > 0
    assert history.images_per_second > 0


def test_the_seed_orders_the_batches(garments):
    def losses(seed):
        trainer = Softmax(max_epochs=1, batch_size=64, seed=seed, progress=False)
        return trainer.fit(new_model(), garments).loss

    assert losses(0) == losses(0)
    assert losses(0) != losses(1)


def test_every_epoch_has_an_order_of_its_own(garments):
    class Recording(Softmax):
        seen = ()

        def train_step(self, X, y):
            self.seen = *self.seen, y
            return super().train_step(X, y)

    trainer = Recording(max_epochs=2, batch_size=320, seed=3, progress=False)
    trainer.fit(new_model(), garments)
    want = [y for e in (0, 1) for _, y in garments.train_batches(320, 3, e)]
    np.testing.assert_array_equal(trainer.seen, want)
    assert not np.array_equal(want[0], want[2])


def test_images_per_second_leave_out_the_step_that_compiles(garments, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(training.time, "perf_counter", lambda: clock[0])

    class Slow(Softmax):
        def train_step(self, X, y):
            clock[0] += 0.5 if clock[0] else 100
            return super().train_step(X, y)

    history = Slow(max_epochs=1, batch_size=100).fit(new_model(), garments)
    assert history.seconds == 100 + 5 * 0.5
    assert history.images_per_second == 500 / (5 * 0.5)


def test_the_seed_orders_what_statistics_are_taken_of(garments):
    """Whole batches, of the trainer's size, seed and dtype."""

    class Pooling(Softmax):
        def pooled_statistics(self, batches):
            self.seen = list(batches)
            return {}

    trainer = Pooling(batch_size=50, seed=7, progress=False)
    trainer.prepare(new_model())
    trainer.reestimate(garments)
    want = [X for X, _ in garments.whole_batches(50, 7, "float64")]
    for seen, wanted in zip(trainer.seen, want, strict=True):
        assert seen.dtype == np.float64
        np.testing.assert_array_equal(seen, wanted)


def test_progress_says_a_line_per_epoch(garments, capsys):
    Softmax(max_epochs=2, label="softmax").fit(new_model(), garments)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0] for line in lines] == [
        "softmax epoch 1/2",
        "softmax epoch 2/2",
    ]
    assert "images/s" in lines[0]


def test_an_interrupted_run_leaves_the_last_whole_epoch(garments, tmp_path):
    path = tmp_path / "weights.safetensors"

    class Interrupted(Softmax):
        def train_step(self, X, y):
            if path.exists():
                raise KeyboardInterrupt
            return super().train_step(X, y)

    trainer = Interrupted(max_epochs=2, checkpoint=path, progress=False)
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(new_model(), garments)
    one = Softmax(max_epochs=1, progress=False)
    one.fit(new_model(), garments)
    saved = training.load_weights(path)
    np.testing.assert_array_equal(saved["w"], one.get_weights()["w"])
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_a_checkpoint_keeps_transposed_views(tmp_path):
    path = tmp_path / "w.safetensors"
    view = np.arange(6.0).reshape(2, 3).T
    training.save_weights(path, {"w": view})
    np.testing.assert_array_equal(training.load_weights(path)["w"], view)


def test_the_checkpoint_is_that_of_the_last_epoch(garments, tmp_path):
    path = tmp_path / "weights.safetensors"
    trainer = Softmax(max_epochs=2, checkpoint=path, progress=False)
    trainer.fit(new_model(), garments)
    np.testing.assert_array_equal(
        training.load_weights(path)["w"], trainer.get_weights()["w"]
    )


def test_a_checkpoint_that_cannot_be_written_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "w.safetensors"
    training.save_weights(path, {"w": np.ones(3)})

    def full(*_):
        raise OSError("full")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match=r"^full$"):
        training.save_weights(path, {"w": np.zeros(3)})
    np.testing.assert_array_equal(training.load_weights(path)["w"], np.ones(3))


def test_statistics_are_taken_anew_of_all_data_in_the_order_of_the_seed(garments):
    class Normalized(Softmax):
        """Pretends to have a batch norm, and keeps what it is given."""

        def pooled_statistics(self, batches):
            self.batches = list(batches)
            return {"bn": {"moving_mean": np.arange(3.0), "moving_var": np.ones(3)}}

    moving = {f"bn.moving_{name}": np.zeros(3, "float32") for name in ("mean", "var")}
    trainer = Normalized(seed=5, batch_size=64, progress=False)
    trainer.prepare(new_model() | moving)
    trainer.reestimate(garments.take(train=100))
    found, expected = (
        trainer.batches,
        [X for X, _ in garments.take(train=100).whole_batches(64, 5, "float64")],
    )
    assert [len(X) for X in found] == [50, 50]
    np.testing.assert_array_equal(np.concatenate(found), np.concatenate(expected))
    weights = trainer.get_weights()
    np.testing.assert_array_equal(weights["bn.moving_mean"], np.arange(3))
    np.testing.assert_array_equal(weights["bn.moving_var"], np.ones(3))
    assert {weights[name].dtype for name in moving} == {np.dtype("float32")}


def test_a_truncated_checkpoint_is_refused(tmp_path):
    path = tmp_path / "w.safetensors"
    training.save_weights(path, {"w": np.ones(100)})
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(ValueError) as caught:
        training.load_weights(path)
    assert str(caught.value).startswith(f"{path} is not a whole safetensors file: ")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"v": np.ones(2)}, "the weights lack w"),
        ({"w": np.ones(2), "v": np.ones(2)}, "the model has no v"),
        ({"w": np.ones(3)}, "w has shape (2,); the weights give (3,)"),
        ({"w": np.ones((2, 1))}, "w has shape (2,); the weights give (2, 1)"),
    ],
)
def test_weights_that_do_not_fit(given, message):
    with pytest.raises(ValueError) as caught:
        training.check_weights({"w": np.ones(2)}, given)
    assert str(caught.value) == message


def test_set_weights_checks_first():
    trainer, model = Softmax(progress=False), new_model()
    trainer.prepare(model)
    with pytest.raises(
        ValueError, match=r"^w has shape \(10, 784\); the weights give "
    ):
        trainer.set_weights({"w": np.ones(3)})
    assert model["w"].shape == (10, 784)


def test_micro_batches_have_their_share_of_the_examples():
    X, y = np.arange(14).reshape(7, 2), np.arange(7)
    parts = training.micro_batches(X, y, 3)
    assert [share for _, _, share in parts] == [3 / 7, 2 / 7, 2 / 7]
    for i, joined in enumerate((X, y)):
        np.testing.assert_array_equal(np.concatenate([p[i] for p in parts]), joined)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_epochs": 0}, "max_epochs must be at least 1; got 0"),
        ({"batch_size": 0}, "batch_size must be at least 1; got 0"),
        ({"device": "tpu"}, "device must be auto, cpu or gpu; got 'tpu'"),
    ],
)
def test_settings_that_make_no_sense(options, message):
    with pytest.raises(ValueError) as caught:
        training.Trainer(**options)
    assert str(caught.value) == message


def test_cross_entropy():
    logits, labels = np.array([[0.0, 0.0], [1e4, 0.0]]), np.array([0, 0])
    assert training.cross_entropy(logits, labels) == np.log(2) / 2
