"""What the tests of models with other batch norms share, whatever the framework."""

import re

import numpy as np
import pytest

NUMBER = r"(\d\.\de[+-]\d\d|inf)"


def assert_same_state(got, want):
    """Two {name: array} have the same names in the same order, and the same values."""
    assert list(got) == list(want)
    for name, v in want.items():
        np.testing.assert_array_equal(got[name], v)


def close(got, want, tolerance=1e-12):
    """Fail unless two arrays agree, relative to the largest value."""
    assert np.abs(got - want).max() <= tolerance * np.abs(want).max()


def kinds(bn, model):
    """The classes of the batch norms of a model, by name and in order."""
    return [description.kind for description in bn.batch_norms(model).values()]


def refuses(message, function, *args, **kwargs):
    """The call raises a ValueError with this message, whole."""
    with pytest.raises(ValueError) as error:
        function(*args, **kwargs)
    assert str(error.value) == message


def not_proven(mode, function, *args, path="", **kwargs):
    """The call is refused, since the model's output in a mode would change."""
    message = (
        rf"{path}the model's output in {mode} would change by {NUMBER} of its largest "
        r"value; more than 1e-06, so nothing was changed"
    )
    with pytest.raises(ValueError) as error:
        function(*args, **kwargs)
    assert re.fullmatch(message, str(error.value))
