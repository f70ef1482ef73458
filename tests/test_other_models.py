"""Models as other people write them: each tool answers rightly, or refuses by name."""

import functools
import warnings

import numpy as np
import pytest
from other_models import ZOOS, X
from whole_models import close, refuses

from bn_from_scratch.surgery import trees

NONE = "the model must have a batch norm; it has none"
EXACTLY = "it must be exactly a batch norm of its framework or of ours"


@pytest.fixture(scope="module", params=ZOOS)
def other(request):
    """The models of each framework, and what works on them."""
    return ZOOS[request.param]()


def arrays(answer):
    """{place: array} of what a model answers, whatever its framework."""

    def as_array(v):
        v = v.detach() if hasattr(v, "detach") else v
        return np.asarray(v.asnumpy() if hasattr(v, "asnumpy") else v)

    return trees.flat(answer, as_array)


def same(zoo, new, old, given=X):
    """Two models answer alike in prediction."""
    got, want = (arrays(zoo.predict(m, given)) for m in (new, old))
    assert got.keys() == want.keys()
    for place in want:
        close(got[place], want[place], 1e-5)


# --- A layer that does more than its class says --------------------------------------


def test_a_forward_of_its_own_is_refused_by_name(other):
    for done, tool in other.tools.items():
        message = f"norm cannot be {done.strip()}: {EXACTLY}; Relu has a "
        message += f"{other.forward} of its own"
        refuses(message, tool, other.models["own"], X)


# --- What the caller sets ------------------------------------------------------------

CHOSEN = {"momentum": 0.01, "eps": 0.5, "statistics": "batch", "correction": 1}
VARIANTS = {"BatchNorm": {}, "GhostBatchNorm": {"ghost_size": 4}, "BatchRenorm": {}}
VARIANTS |= {"AccumBatchNorm": {"steps": 2}, "SyncBatchNorm": {}, "FusedBatchNorm": {}}
VARIANTS |= {"AdjustedBatchNorm": {"adjustment": lambda *a: (1, 0)}}
VARIANTS |= {"MeanOnlyBatchNorm": {}, "VarOnlyBatchNorm": {}, "FrozenBatchNorm": {}}


def test_what_the_caller_sets_wins(other):
    model = other.models["dropout"]
    for variant, own in VARIANTS.items():
        make = functools.partial(getattr(other.bn, variant), **own, **CHOSEN)
        if variant == "BatchNorm" or other.replace is other.bn.replace_batch_norm:
            [found] = other.describe(other.replace(model, make)).values()
            assert found.settings.items() >= CHOSEN.items(), variant
            assert found.state.keys() >= {"gamma", "moving_mean"}


def test_the_caller_may_set_a_size_and_the_dtype(other):
    make = functools.partial(other.bn.BatchNorm, num_dims=2, dtype="float64")
    if other.bn.__name__.split(".")[2] == "jax":  # JAX has none of its own accord
        make = functools.partial(other.bn.BatchNorm, num_dims=2, dtype="float32")
    [found] = other.describe(other.replace(other.models["dropout"], make)).values()
    assert (found.num_features, found.num_dims) == (5, 2)
    assert found.settings["dtype"] == make.keywords["dtype"]


# --- Nothing to work on --------------------------------------------------------------


def test_nothing_to_work_on_is_an_error(other):
    no_batch = (
        "there must be a batch at least, to take statistics of; there is none "
        "(a generator can be read once)"
    )
    read = iter([X])
    next(read)
    for batches in ([], read):
        refuses(no_batch, other.reestimate, other.models["dropout"], batches)
    for tool in other.tools.values():
        refuses(NONE, tool, other.models["none"], X)
        refuses(
            "the model must have a batch norm of a known class; it has none, and norm "
            "is a Like",
            tool,
            other.models["like"],
            X,
        )


# --- Trees of inputs and outputs -----------------------------------------------------


def test_two_inputs_and_a_tree_of_outputs(other):
    model = other.models["two"]
    for given in ((X, X + 1), {"a": X, "b": X + 1}):
        for done, tool in other.tools.items():
            new = tool(model, given)
            if done in ("replaced", "folded"):
                same(other, new, model, (X, X + 1))
    means = [
        other.describe(other.reestimate(model, [given]), given)["norm"].state
        for given in ((X, X), {"a": X, "b": X})
    ]
    for state in means:
        assert state["moving_mean"].any()
        np.testing.assert_array_equal(state["moving_mean"], means[0]["moving_mean"])


# --- Casts on the way ----------------------------------------------------------------


def test_a_model_that_casts_is_proven_in_its_own_dtype(other):
    model = other.models["casts"]
    message = r"^proven in float32, to 3e-04 of the largest value: the model does not r"
    for done in ("replaced", "folded"):
        with pytest.warns(UserWarning, match=message):
            same(other, other.tools[done](model, X), model)
    with warnings.catch_warnings(action="error"):
        other.tools["replaced"](other.models["dropout"], X)


# --- Folding -------------------------------------------------------------------------


def test_a_dropout_before_the_batch_norm_folds(other):
    model = other.models["dropout"]
    same(other, other.fold(model, X), model)
    *_, left = other.fold(model, X, partial=True)
    assert left == {}


def test_what_can_be_folded_is_folded_and_the_rest_listed(other):
    model = other.models["pre"]
    *new, left = other.fold(model, X, partial=True)
    new = tuple(new) if len(new) > 1 else new[0]
    same(other, new, model)
    assert list(left) == ["norm"]
    assert left["norm"].startswith("norm cannot be folded: ")
    assert [d.name for d in other.describe(new).values()] == ["norm"]
    with pytest.raises(ValueError, match=r"^norm cannot be folded: "):
        other.fold(model, X)
