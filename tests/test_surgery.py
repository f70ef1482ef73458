"""What surgery has in common in every framework: the arithmetic and the proof."""

import numpy as np
import pytest

from bn_from_scratch import spec
from bn_from_scratch.surgery import folding, proof

rng = np.random.default_rng(0)


def vectors(C):
    mean, gamma, beta = rng.normal(2, 3, (3, C))
    return mean, rng.uniform(0.1, 4, C), gamma, beta


def test_prediction_is_affine():
    X, four = rng.normal(5, 3, (4, 3, 2, 5)), vectors(3)
    factor, shift = spec.prediction(*four, eps=0.3)
    Y = factor[:, None, None] * X + shift[:, None, None]
    np.testing.assert_allclose(Y, spec.normalize(X, *four, 0.3), rtol=1e-12)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("bias", [rng.normal(size=3), None])
def test_a_dense_layer_takes_in_the_norm_behind_it(axis, bias):
    X, weight, four = rng.normal(size=(6, 5)), rng.normal(size=(3, 5)), vectors(3)
    linear = X @ weight.T + (0 if bias is None else bias)
    given = weight if axis == 0 else weight.T
    folded, shift = folding.fold(given, bias, *four, 0.3, axis)
    Y = X @ (folded.T if axis == 0 else folded) + shift
    np.testing.assert_allclose(Y, spec.normalize(linear, *four, 0.3), rtol=1e-11)


def test_it_folds_in_float64_and_returns_what_it_got():
    weight = rng.normal(size=(2, 3)).astype(np.float32)
    folded, bias = folding.fold(weight, None, *vectors(2), 1e-5)
    assert folded.dtype == bias.dtype == np.float32


def test_a_proof_returns_the_differences():
    before = {"prediction": np.array([1.0, -4.0]), "training": np.array([2.0])}
    after = {"prediction": np.array([1.0, -4.0 + 2e-6]), "training": np.array([2.0])}
    found = proof.prove(before, after)
    assert found == pytest.approx({"prediction": 5e-7, "training": 0}, rel=1e-6)


def test_what_differs_is_refused():
    before = {"prediction": np.ones(2), "training": np.ones(2)}
    after = {"prediction": np.ones(2), "training": np.array([1, 1.25])}
    message = (
        "the model's output in training would change by 2.5e-01 of its largest value; "
        "more than 1e-06, so nothing was changed"
    )
    with pytest.raises(ValueError, match=message):
        proof.prove(before, after)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_no_number_is_refused(value):
    with pytest.raises(ValueError, match="would change by"):
        proof.prove({"prediction": np.ones(2)}, {"prediction": np.array([1, value])})


def test_another_shape_differs():
    assert proof.difference(np.ones((2, 1)), np.ones(2)) == np.inf


def test_several_outputs():
    before = {"a": np.ones(2), "b": np.array([10.0])}
    assert proof.difference(before, {"a": np.ones(2), "b": np.array([9.0])}) == 0.1
    assert proof.difference(before, {"a": np.zeros(2), "b": np.array([9.0])}) == 1


# --- Who is at fault -----------------------------------------------------------------


def folding_that_refuses(*bad):
    """fold(pairs) that fails where one of these sets is among the pairs."""

    def fold(pairs):
        for some in bad:
            if set(some) <= set(pairs):
                raise ValueError(f"cannot fold {some}")

    return fold


def refusal(pair, error):
    return ValueError(f"{pair} is at fault: {error}")


def test_the_pair_that_cannot_be_folded_is_named():
    folding.fold_all(folding_that_refuses("x"), ["a", "b"], refusal)
    with pytest.raises(ValueError, match=r"^b is at fault: cannot fold b$"):
        folding.fold_all(folding_that_refuses("b"), ["a", "b"], refusal)


def test_pairs_that_fail_only_together_are_refused_too():
    with pytest.raises(ValueError, match=r"^cannot fold ab$"):
        folding.fold_all(folding_that_refuses("ab"), ["a", "b"], refusal)


def test_a_difference_is_related_to_what_was_before():
    assert proof.difference(np.array([2.0, 0.0]), np.array([2.0, 8.0])) == 4
    assert proof.difference(np.zeros(2), np.array([0.0, 0.25])) == 0.25
    assert proof.difference(np.zeros((0, 3)), np.zeros((0, 3))) == 0
