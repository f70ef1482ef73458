"""The figures and the page of a comparison: what they say, and what they never do."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.image import imread

from bn_from_scratch.compare import figures, report, runs
from bn_from_scratch.files import write_atomically
from bn_from_scratch.presentation import style

FOUR = ("torch", "tensorflow", "jax", "mxnet")
HOSTILE = """'"><script>alert(1)</script>"""


def trained(backends=FOUR, norms=("scratch", "builtin"), steps=60, apart=1e-6):
    """What `bn compare training` collects, with losses that differ by about apart."""
    rng = np.random.default_rng(0)
    curve = 0.6 + 1.7 * np.exp(-np.arange(steps) / 20) + rng.normal(0, 0.03, steps)
    runs = [
        {
            "backend": backend,
            "norm": norm,
            "dtype": "float32",
            "data": "Fashion-MNIST",
            "device": "cpu",
            "loss": (curve + rng.uniform(-apart, apart, steps)).tolist(),
            "val_loss": 0.61,
            "val_accuracy": 0.78,
            "val_losses": [0.61],
            "val_accuracies": [0.78],
            "seconds": 7.1,
            "images_per_second": 3600.0,
            "gamma": [0.9, 1.0, 1.1],
            "beta": [-0.2, 0.0, 0.3],
            "setting": {"eps": f"epsilon of {backend}"} if norm == "builtin" else {},
        }
        for backend in backends
        for norm in norms
    ]
    environment = {"python": "3.11.7", "cores": 2}
    results = {"data": "Fashion-MNIST", "dtype": "float32", "epochs": 1, "lr": 0.1}
    results |= {
        "batch_size": 128,
        "accumulate": 1,
        "seed": 0,
        "optimizer": "sgd",
        "test_samples": 10000,
    }
    results |= {"train_samples": 7680, "command": "bn compare training", "runs": runs}
    return agreed(results | {"environment": environment})


def agreed(results):
    """The same results with the agreement of their losses."""
    table = np.array([run["loss"] for run in results["runs"]])
    names = [f"{run['backend']}/{run['norm']}" for run in results["runs"]]
    largest = [float(np.abs(table - row).max()) for row in table]
    results["agreement"] = {
        "tolerance": 1e-3,
        "agree": bool(max(largest) <= 1e-3),
        "largest_loss_difference": float(np.max(largest)),
        "loss_difference": dict(zip(names, largest, strict=True)),
    }
    return results


def measured():
    """What `bn compare precision` collects; one layer gives no number at the end."""
    layers = [("torch", "scratch", 1e-7), ("jax", "builtin", 1e-3)]
    return {
        "data": "random normal numbers, std 1",
        "rows": [
            {
                "backend": backend,
                "norm": norm,
                "memory": "channels-last",
                "shape": [128, 6, 24, 24],
                "mean": mean,
                "error": np.nan if slope * mean == 10 else 5e-7 + slope * mean,
                "bound": 1e-5 + 1.2e-7 * mean,
            }
            for backend, norm, slope in layers
            for mean in (0.0, 100.0, 1e4)
        ],
    }


class Page(HTMLParser):
    """The links, the text, the scripts, the tags and the attributes of a page."""

    def __init__(self, page):
        super().__init__()
        self.links, self.texts, self.scripts, self.tags = [], [], [], []
        self.attributes = []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes
        self.links += [v for k, v in attributes if k in ("href", "src", "action")]

    def handle_data(self, data):
        inside = self.tags[-1:] == ["script"]
        (self.scripts if inside else self.texts).append(data)

    def handle_endtag(self, tag):
        self.tags.append("/" + tag)


@pytest.fixture
def read(tmp_path):
    """Write the page of results; its source, and its visible text."""

    def write_and_read(results):
        report.html(results, tmp_path / "report.html")
        page = (tmp_path / "report.html").read_text("utf-8")
        return page, re.sub(r"\s+", " ", " ".join(Page(page).texts))

    return write_and_read


def painted(path):
    """The share of a picture's pixels that are not white."""
    image = imread(path)
    assert image.shape[:2] == (900, 1600)
    return (image[..., :3] < 0.9).any(axis=-1).mean()


def coloured(image, colour):
    """How many pixels have this colour."""
    return (np.abs(image[..., :3] - to_rgb(colour)) < 0.02).all(axis=-1).sum()


def test_page_answers_in_one_sentence(read):
    results = trained()
    most = f"{results['agreement']['largest_loss_difference']:.2g}"
    answer = "Eight runs, one curve: the losses of 4 frameworks × 2 norms never differ "
    assert f"{answer}by more than {most} in 60 steps." in read(results)[1]


def test_page_asks_for_nothing_else(read):
    page, _ = read(trained())
    assert {link[0] for link in Page(page).links} == {"#"}
    for outside in ("://", "url(", "@import", "fetch(", "XMLHttp", "import("):
        assert outside not in page


def test_page_escapes_every_text(read):
    results = trained(backends=(HOSTILE, "jax"))
    results |= {"data": HOSTILE, "command": HOSTILE, "dtype": HOSTILE}
    results |= {"optimizer": HOSTILE, "environment": {HOSTILE: HOSTILE}}
    for run in results["runs"]:
        run |= {"setting": {HOSTILE: HOSTILE}, "device": HOSTILE, "norm": "builtin"}
    results["runs"] = results["runs"][::2]
    results["runs"][0]["loss"][3] += 1  # so that the answer names it
    agreed(results)
    page, text = read(results)
    assert Page(page).tags.count("script") == 2  # the losses, and the read-out
    spoken = f"Absolute difference from the loss of {HOSTILE} built-in"
    assert ("aria-label", spoken) in Page(page).attributes
    assert "alert(1)" not in " ".join(Page(page).scripts)
    assert text.count(HOSTILE) > 10


def test_page_names_the_data(read):
    results = trained()
    _, text = read(results)
    assert "data Fashion-MNIST" in text
    assert "Not Fashion-MNIST" not in text
    _, text = read(results | {"data": "garments (drawn by code, not Fashion-MNIST)"})
    assert "Not Fashion-MNIST. These runs saw garments (drawn by code" in text


def test_page_says_that_runs_disagree_and_which(read):
    results = trained()
    results["runs"][5]["loss"][40] += 0.25
    page, text = read(agreed(results))
    start = (
        "The runs disagree, JAX built-in most: the losses differ by up to 0.25 in 60"
    )
    assert f"{start} steps, where 0.001 is allowed." in text
    assert "one curve" not in text
    assert '<header class="disagree">' in page


def test_page_names_the_run_that_left_though_it_is_the_first(read):
    results = trained()
    results["runs"][0]["loss"][40] += 0.25
    _, text = read(agreed(results))
    assert "The runs disagree, PyTorch scratch most: the losses" in text


def test_differences_are_those_from_a_run_that_was_not_lost(read):
    results = trained()
    results["runs"][0]["loss"][30] = np.nan
    _, text = read(agreed(results))
    assert "Absolute difference from the loss of PyTorch built-in; 0 is drawn" in text


def test_page_says_that_a_loss_is_lost(read):
    results = trained(steps=60)
    results["runs"][2]["loss"][30:] = [np.nan] * 30
    page, text = read(agreed(results))
    start = "The runs disagree. The loss of TensorFlow scratch is not finite at step"
    assert f"{start} 31." in text
    drawn = re.findall(r' (?:d|style)="([^"]*)"', page)
    assert len(drawn) > 20
    assert "nan" not in str(drawn)
    curves = re.findall(r'<path id="\w\d" d="([^"]*)"', page)
    assert len(curves) == 8 + 8 + 7  # whole, enlarged, as differences
    assert all(curves)


def test_page_lists_what_each_built_in_layer_was_told(read):
    text = read(trained())[1]
    assert "our word PyTorch TensorFlow JAX MXNet eps epsilon of torch" in text
    assert "No built-in layer" in read(trained(norms=("scratch",)))[1]


def test_digits_that_runs_share_are_not_marked(read):
    assert report._shared(["0.512", "0.519"]) == [("0.51", "2"), ("0.51", "9")]
    assert report._shared(["0.5", "0.5"]) == [("0.5", ""), ("0.5", "")]
    results = trained(backends=("jax",))
    results["runs"][0]["val_loss"] = 0.625
    page, _ = read(results)
    assert "<td>0.6<mark>2500000</mark></td>" in page
    assert "<td>0.6<mark>1000000</mark></td>" in page
    assert "<mark></mark>" not in page


def test_long_runs_are_thinned_to_the_largest_difference():
    results = trained(backends=("torch",), steps=2001)
    results["runs"][1]["loss"][777] += 0.5
    far = runs.distances(agreed(results))
    assert len(far.steps) <= 400
    assert far.steps[-1] == 2001
    assert far.values[1].max() == pytest.approx(0.5, abs=1e-5)


@pytest.mark.parametrize("steps", [1, 2, 60, 900])
@pytest.mark.parametrize("norms", [("scratch",), ("builtin",), ("scratch", "builtin")])
@pytest.mark.parametrize("loss", [None, np.nan, np.inf])
@pytest.mark.filterwarnings("error")
def test_every_shape_of_results_gives_a_page(read, steps, norms, loss):
    results = trained(backends=("jax",), norms=norms, steps=steps)
    if loss is not None:
        with np.errstate(invalid="ignore"):
            results["runs"][0]["loss"] = [loss] * steps
            results["runs"][0]["gamma"] = [loss] * 3
            agreed(results)
    text = read(results)[1]
    assert ("not finite" in text) == (loss is not None)
    assert ("nothing to compare it with" in text) == (len(norms) == 1)


@pytest.mark.parametrize("steps", [1, 60])
@pytest.mark.parametrize("backends", [FOUR, ("jax",)])
@pytest.mark.parametrize("loss", [0.5, np.nan])
@pytest.mark.filterwarnings("error")
def test_curves_are_drawn(tmp_path, steps, backends, loss):
    results = trained(backends=backends, steps=steps)
    results["runs"][1]["loss"][-1] = loss
    figures.curves(agreed(results), tmp_path / "curves.png")
    assert painted(tmp_path / "curves.png") > 0.01


@pytest.mark.filterwarnings("error")
def test_precision_marks_what_is_wrong(tmp_path):
    results = measured()
    figures.precision(results, tmp_path / "wrong.png")
    for row in results["rows"]:
        row["error"] = 5e-7
    figures.precision(results, tmp_path / "right.png")
    assert painted(tmp_path / "right.png") > 0.01
    wrong, right = (
        coloured(imread(tmp_path / name), style.ALARM)
        for name in ("wrong.png", "right.png")
    )
    assert wrong > right + 50  # a circle more, beside the words that both have


@pytest.mark.parametrize("norms", [("scratch",), ("builtin",), ("scratch", "builtin")])
def test_equal_curves_show_every_colour(tmp_path, norms):
    figures.curves(trained(norms=norms, apart=0), tmp_path / "curves.png")
    upper = imread(tmp_path / "curves.png")[60:280, 800:1550]  # the enlarged part
    for colour in style.COLOURS.values():
        assert coloured(upper, colour) > 100


def test_the_same_results_give_the_same_files_and_no_others(tmp_path):
    for folder in ("one", "two"):
        report.html(trained(), tmp_path / folder / "report.html")
        figures.curves(trained(), tmp_path / folder / "curves.png")
    one, two = (
        {file.name: file.read_bytes() for file in (tmp_path / folder).iterdir()}
        for folder in ("one", "two")
    )
    assert sorted(one) == ["curves.png", "report.html"]
    assert one == two


def test_a_reader_of_the_old_file_keeps_it(tmp_path):
    write_atomically(tmp_path / "report.html", "old")
    with open(tmp_path / "report.html") as reader:
        write_atomically(tmp_path / "report.html", "new")
        assert reader.read() == "old"
    assert (tmp_path / "report.html").read_text() == "new"


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    write_atomically(path, "old")
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match=r"^full$"):
        write_atomically(path, "new")
    assert [file.read_text() for file in tmp_path.iterdir()] == ["old"]
