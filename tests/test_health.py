"""Health: every symptom is seen where it is, and none where all is well."""

import importlib
import json
from html.parser import HTMLParser

import numpy as np
import pytest
from conftest import load_or_skip, small_garments

from bn_from_scratch import spec, training
from bn_from_scratch.health import examine, health, page, report
from bn_from_scratch.health.symptoms import SYMPTOMS
from bn_from_scratch.surgery.description import Description

NAMES = {s.name for s in SYMPTOMS}


def well(C=5):
    """A batch norm without any symptom, and an input like its statistics."""
    rng = np.random.default_rng(0)
    state = {
        "gamma": rng.uniform(0.5, 2, C),
        "beta": rng.normal(size=C),
        "moving_mean": rng.normal(size=C),
        "moving_var": rng.uniform(0.5, 2, C),
    }
    settings = {"eps": 1e-5, "momentum": 0.1, "axis": 1, "correction": 0}
    settings |= {"statistics": "moving", "frozen": None}
    X = rng.normal(state["moving_mean"], np.sqrt(state["moving_var"]), (400, C))
    return state, settings, X


def seen(state, settings, X=None, framework="torch", trainable=True):
    trains = {name: trainable for name in ("gamma", "beta")}
    described = Description("bn", "BatchNorm", True, 5, None, settings, state, trains)
    inputs = [] if X is None else [X]
    row = examine.row(examine.Examined(described, framework, inputs))
    return {s.name: text for s, text in row.symptoms}


def test_a_layer_that_is_well():
    state, settings, X = well()
    assert seen(state, settings, X) == {}
    assert seen(state, settings) == {}


@pytest.mark.parametrize(
    ("name", "changes", "evidence"),
    [
        ("not numbers", {"beta": np.full(5, np.nan)}, "beta not finite"),
        (
            "statistics never moved",
            {"moving_mean": np.zeros(5), "moving_var": np.ones(5)},
            "every moving mean is 0 and every variance 1",
        ),
        (
            "variance near eps",
            {"moving_var": np.array([5e-5, 1, 1, 1, 2])},
            "1 of 5 channels with a variance below 10 eps "
            "(eps = 1e-05, smallest variance 5.0e-05)",
        ),
        (
            "dead channels",
            {"gamma": np.array([0, 1e-4, 1, 1, 1])},
            "2 of 5 channels with |gamma| below 0.001",
        ),
        (
            "exploding channels",
            {"gamma": np.array([-300.0, 1, 1, 1, 1]), "moving_var": np.full(5, 4)},
            "1 of 5 channels multiplied by more than 100 in prediction (at most 150)",
        ),
    ],
)
def test_what_the_state_shows(name, changes, evidence):
    state, settings, _ = well()
    assert seen(state | changes, settings)[name] == evidence


@pytest.mark.parametrize(
    ("name", "changes", "evidence"),
    [
        (
            "no statistics",
            {"statistics": "batch"},
            "it predicts by the statistics of the batch",
        ),
        ("unusual momentum", {"momentum": 0.9}, "the new batch has weight 0.9"),
        ("unusual momentum", {"momentum": 0}, "the new batch has weight 0"),
        ("unusual eps", {"eps": 1e-12}, "eps = 1e-12"),
        ("unusual eps", {"eps": 0.02}, "eps = 0.02"),
    ],
)
def test_what_the_settings_show(name, changes, evidence):
    state, settings, _ = well()
    assert seen(state, settings | changes) == {name: evidence}


@pytest.mark.parametrize("momentum", [None, 0.01, 0.5])
@pytest.mark.parametrize("eps", [1e-3, 1e-6, None])
def test_what_a_file_does_not_say_and_what_is_usual(momentum, eps):
    state, settings, _ = well()
    assert seen(state, settings | {"momentum": momentum, "eps": eps}) == {}


@pytest.mark.parametrize("framework", ["torch", "mxnet", "tensorflow", "jax"])
def test_frozen_parameters_do_not_stop_statistics_everywhere(framework):
    state, settings, _ = well()
    found = seen(state, settings, framework=framework, trainable=False)
    assert ("frozen but moving" in found) == (framework in ("torch", "mxnet"))
    fixed = settings | {"frozen": "all"}
    assert seen(state, fixed, framework=framework, trainable=False) == {}


def test_what_a_batch_shows():
    state, settings, X = well()
    found = seen(state, settings, X[:9])
    assert found["too few values"] == (
        "9 per channel: a batch's variance is off by 50% or so"
    )
    shift = np.sqrt(state["moving_var"])  # of one standard deviation
    found = seen(state, settings, X + shift)
    assert found == {
        "training and prediction apart": "X_hat differs by 0.97 standard deviations"
    }


@pytest.mark.parametrize(
    ("name", "state", "settings", "is_seen"),
    [
        ("unusual eps", {}, {"eps": 1.01e-6}, False),
        ("unusual eps", {}, {"eps": 0.99e-6}, True),
        ("unusual eps", {}, {"eps": 0.99e-2}, False),
        ("unusual eps", {}, {"eps": 1.01e-2}, True),
        ("unusual momentum", {}, {"momentum": 0.5}, False),
        ("unusual momentum", {}, {"momentum": 0.51}, True),
        ("unusual momentum", {}, {"momentum": 1e-9}, False),
        ("variance near eps", {"moving_var": 1.01e-2}, {"eps": 1e-3}, False),
        ("variance near eps", {"moving_var": 0.99e-2}, {"eps": 1e-3}, True),
        ("dead channels", {"gamma": -1.01e-3}, {}, False),
        ("dead channels", {"gamma": -0.99e-3}, {}, True),
        ("exploding channels", {"gamma": 99, "moving_var": 1}, {"eps": 1e-5}, False),
        ("exploding channels", {"gamma": 101, "moving_var": 1}, {"eps": 1e-5}, True),
        ("exploding channels", {"gamma": 150, "moving_var": 1}, {"eps": 0.01}, True),
        ("exploding channels", {"gamma": 5, "moving_var": 0}, {"eps": 0.01}, False),
    ],
)
def test_the_thresholds_of_state_and_settings(name, state, settings, is_seen):
    given, usual, _ = well()
    vectors = {k: np.concatenate([[v], given[k][1:]]) for k, v in state.items()}
    assert (name in seen(given | vectors, usual | settings)) == is_seen


def normal_like(state, n, gap=0.0):
    """X [n, C] with the statistics of a state, off by a gap in all that they are."""
    X = np.random.default_rng(0).normal(size=(n, 5))
    X = (X - X.mean(0)) / X.std(0)
    shift = gap * np.sqrt(state["moving_var"]) * [1, -1, 1, -1, 1]
    return X * np.sqrt(state["moving_var"]) + state["moving_mean"] + shift


@pytest.mark.parametrize(
    ("n", "gap", "names"),
    [
        (32, 0, set()),
        (31, 0, {"too few values"}),
        (32, 0.29, set()),
        (32, 0.31, {"training and prediction apart"}),
    ],
)
def test_the_thresholds_of_a_batch(n, gap, names):
    state, settings, _ = well()
    assert seen(state, settings, normal_like(state, n, gap)).keys() == names


def test_of_two_calls_the_worse_one_counts():
    state, settings, _ = well()
    described = Description("bn", "BatchNorm", True, 5, None, settings, state, {})
    calls = [normal_like(state, 40), normal_like(state, 50, 0.6)]
    for inputs in (calls, calls[::-1]):
        layer = examine.Examined(described, "torch", inputs)
        assert layer.n == 40
        assert layer.gap == pytest.approx(0.6, rel=1e-3)


@pytest.mark.parametrize("name", ["moving_mean", "moving_var"])
def test_statistics_that_moved_a_little_have_moved(name):
    state, settings, _ = well()
    state |= {"moving_mean": np.zeros(5), "moving_var": np.ones(5)}
    state[name] = state[name] + [0, 0, 0.01, 0, 0]
    assert "statistics never moved" not in seen(state, settings)


def test_infinite_is_no_number():
    state, settings, _ = well()
    state["moving_var"] = np.array([1, 1, np.inf, 1, 1])
    state["gamma"] = np.array([1, np.nan, 1, 1, 1])
    assert seen(state, settings)["not numbers"] == "gamma, moving_var not finite"


def test_a_parameter_and_one_that_is_fixed():
    state, settings, _ = well()
    trains = {"gamma": True, "beta": False}
    described = Description("bn", "BatchNorm", True, 5, None, settings, state, trains)
    assert examine.row(examine.Examined(described, "torch")).symptoms == []


def test_every_symptom_was_tried():
    """A symptom without a test here would be a claim."""
    import inspect
    import sys

    text = inspect.getsource(sys.modules[__name__])
    assert [name for name in NAMES if f'"{name}"' not in text] == []


# --- Real models ---------------------------------------------------------------------


def trained(bn, norm=None, **settings):
    settings = {"max_epochs": 4, "batch_size": 64, "lr": 0.1, "progress": False}
    trainer = bn.Trainer(**settings)
    trainer.fit(bn.LeNet(norm or bn.builtin), small_garments())
    return trainer


def examined(bn, trainer, count=64):
    """The health of the trained model, on so many images in its own layout."""
    X, _ = next(small_garments().train_batches(count, 0, 0))
    options = {}
    if "tensorflow" in bn.__package__ or "jax" in bn.__package__:
        X = np.moveaxis(X, 1, -1)
    if "jax" in bn.__package__:
        options = {"variables": trainer.variables}
    return health(trainer.model, X, **options)


def test_a_trained_network(bn, norm):
    trainer = trained(bn, {"scratch": bn.BatchNorm, "builtin": bn.builtin}[norm])
    trainer.reestimate(small_garments())
    found = examined(bn, trainer)
    assert [row.description.name for row in found.rows] == ["bn1", "bn2", "bn3", "bn4"]
    assert [row.n for row in found.rows] == [36864, 4096, 64, 64]
    assert all(row.gap < 0.3 for row in found.rows), found
    assert all(0 < row.output_gap < 0.3 for row in found.rows), found
    assert found.well, found


def test_a_new_network_has_never_moved(bn):
    trainer = bn.Trainer(progress=False)
    trainer.prepare(bn.LeNet(bn.builtin))
    found = examined(bn, trainer, count=16)
    assert not found.well
    places = {s.name: [layer for layer, _ in v] for s, v in found.by_symptom().items()}
    assert places["statistics never moved"] == ["bn1", "bn2", "bn3", "bn4"]
    assert places["too few values"] == ["bn3", "bn4"]
    assert places["training and prediction apart"] == ["bn1", "bn2", "bn3", "bn4"]
    last = found.rows[-1].output_gap
    assert all(row.output_gap < last for row in found.rows[:-1]), "it is nearest"


def test_the_output_gap_is_that_of_one_layer_in_training(bn):
    """For the last batch norm: the dense layer behind it makes it the logits'."""
    trainer = trained(bn)
    found = examined(bn, trainer)
    X, _ = next(small_garments().train_batches(64, 0, 0))
    weights = trainer.get_weights()
    prediction = trainer.logits(X)
    (last,) = (row for row in found.rows if row.description.name == "bn4")
    inputs = inputs_of_the_last_norm(bn, trainer, X)
    state = (weights[f"bn4.{k}"] for k in ("gamma", "beta"))
    Y = spec.normalize(inputs, *spec.batch_stats(inputs), *state, spec.EPS)
    logits = 1 / (1 + np.exp(-Y)) @ weights["dense3.weight"].T + weights["dense3.bias"]
    gap = np.sqrt(np.square(logits - prediction).mean()) / prediction.std()
    assert last.output_gap == pytest.approx(gap, rel=1e-3)


def inputs_of_the_last_norm(bn, trainer, X):
    """What bn4 is given while all before it predict."""
    module = importlib.import_module(f"{bn.__package__}.models.reestimation")
    options = {}
    if "tensorflow" in bn.__package__ or "jax" in bn.__package__:
        X = np.moveaxis(X, 1, -1)
    if "jax" in bn.__package__:
        options = {"variables": trainer.variables}
    return module.run_in_training(trainer.model, X, ["bn4"], **options)[0]["bn4"][0]


def test_what_is_no_model():
    with pytest.raises(TypeError, match=r"^a layer or model of .* wanted; got int$"):
        health(3)


def test_a_file(tmp_path):
    weights = {"bn1.gamma": np.ones(3), "bn1.beta": np.zeros(3)}
    weights |= {"bn1.moving_mean": np.zeros(3), "bn1.moving_var": np.ones(3)}
    path = tmp_path / "a.safetensors"
    training.save_weights(path, {k: v.astype("f4") for k, v in weights.items()})
    found = health(path)
    assert found.model == str(path)
    assert found.as_dict()["layers"][0]["symptoms"][0]["symptom"] == (
        "statistics never moved"
    )


def test_a_file_without_statistics(tmp_path):
    bn = load_or_skip("torch")
    import torch

    state = bn.LeNet(bn.builtin).state_dict()
    path = tmp_path / "a.pt"
    for left_out in (["bn2.running"], ["running"]):
        kept = {k: v for k, v in state.items() if not any(s in k for s in left_out)}
        kept = {k: v for k, v in kept.items() if not k.endswith("tracked")}
        torch.save(kept, path)
        places = health(path).by_symptom()
        places = {s.name: [layer for layer, _ in v] for s, v in places.items()}
        bare = ["bn2"] if left_out == ["bn2.running"] else ["bn1", "bn2", "bn3", "bn4"]
        assert places["statistics missing"] == bare
    (row,) = (r for r in health(path).rows if r.description.name == "bn2")
    assert row.symptoms[0][1] == (
        "there is gamma and beta, but no moving mean and variance"
    )
    torch.save({"a.weight": kept["conv1.weight"], "b.weight": torch.ones(2, 2)}, path)
    with pytest.raises(ValueError, match=r"has no batch norm$"):
        health(path)


# --- What is shown -------------------------------------------------------------------


def example():
    state, settings, _ = well()
    state |= {"moving_mean": np.zeros(5), "moving_var": np.ones(5)}
    rows = []
    for name in ("a", "<b>"):
        described = Description(name, "BatchNorm1d", True, 5, 2, settings, state)
        rows.append(examine.row(examine.Examined(described, "torch")))
    return report.Health("net", rows)


def test_the_text_says_what_layers_share_once():
    assert str(example()).splitlines()[2:] == [
        "a      BatchNorm1d         5       -    -       -  statistics never moved",
        "<b>    BatchNorm1d         5       -    -       -  statistics never moved",
        "",
        "statistics never moved:",
        "  a: every moving mean is 0 and every variance 1",
        "  <b>: every moving mean is 0 and every variance 1",
        "  -> They are as they began: the model never ran in training mode (in Keras:",
        "     training=True), or a checkpoint without them was loaded.",
    ]


def test_the_data_are_json():
    found = json.loads(json.dumps(example().as_dict()))
    assert found["well"] is False
    assert found["layers"][1]["layer"] == "<b>"
    assert found["layers"][1]["values_per_channel"] is None


def test_the_page_needs_nothing_else(tmp_path):
    page.html(example(), tmp_path / "health.html")
    text = (tmp_path / "health.html").read_text()
    assert "2 of 2 batch norms with symptoms" in text
    assert text.count("<svg") == 2
    assert "<b>" not in text
    assert "&lt;b&gt;" in text
    assert "<link" not in text
    assert "<script" not in text
    assert 'src="' not in text


def test_the_page_escapes_every_name(tmp_path):
    hostile = """'"><script>alert(1)</script>"""
    state, settings, _ = well()
    state |= {"beta": np.full(5, np.nan)}
    described = Description(hostile, hostile, True, 5, 2, settings, state)
    row = examine.row(examine.Examined(described, "torch"))
    page.html(report.Health(hostile, [row]), tmp_path / "a.html")
    found = Texts((tmp_path / "a.html").read_text())
    assert "script" not in found.tags
    for attribute in (
        ("id", hostile),
        ("href", f"#{hostile}"),
        ("aria-label", f"parameters and statistics of {hostile}"),
    ):
        assert attribute in found.attributes
    assert found.texts.count(hostile) == 4  # its title, row, kind and section
    assert f"Batch norms of {hostile}" in found.texts


class Texts(HTMLParser):
    """The tags, the attributes and the texts of a page."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.attributes, self.texts = [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes

    def handle_data(self, data):
        self.texts.append(data)


def test_pages_are_the_same_from_the_same(tmp_path):
    for name in ("a", "b"):
        page.html(example(), tmp_path / name)
    assert (tmp_path / "a").read_text() == (tmp_path / "b").read_text()


def test_a_picture_shows_channels_by_variance():
    state, settings, _ = well()
    pictures = set()
    for order in ([0, 1, 2, 3, 4], [3, 0, 4, 1, 2]):
        moved = {name: value[order] for name, value in state.items()}
        described = Description("a", "BatchNorm1d", True, 5, 2, settings, moved)
        row = examine.row(examine.Examined(described, "torch"))
        pictures.add(page.picture(row))
    assert len(pictures) == 1


def test_one_of_two_that_is_unwell_is_enough():
    state, settings, _ = well()
    settings = [settings, settings | {"eps": 1}]
    described = [
        Description(n, "B", True, 5, 2, s, state)
        for n, s in zip("ab", settings, strict=True)
    ]
    rows = [examine.row(examine.Examined(d, "torch")) for d in described]
    assert [report.Health("net", some).well for some in (rows, rows[:1])] == [
        False,
        True,
    ]


def test_a_model_that_is_well(tmp_path):
    state, settings, _ = well()
    described = Description("a", "BatchNorm1d", True, 5, 2, settings, state)
    row = examine.row(examine.Examined(described, "torch"))
    page.html(report.Health("net", [row]), tmp_path / "a.html")
    assert "1 batch norm, all well" in (tmp_path / "a.html").read_text()
