"""For teachers: `pytest exercises -k torch` tests the answers below this folder.

Copy the file into any folder of answers.  What is wrong stands in the failure.
"""

import pathlib

import pytest

from bn_from_scratch.checker import assert_right
from bn_from_scratch.checker.grade import answers

HERE = pathlib.Path(__file__).resolve().parent


@pytest.mark.parametrize("path", answers(HERE), ids=lambda p: str(p.relative_to(HERE)))
def test_the_answer_is_right(path):
    assert_right(path)
