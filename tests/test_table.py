"""Tables for the terminal."""

from bn_from_scratch.presentation.table import Figure, table


def test_words_stand_left_and_numbers_right():
    rows = [["torch", Figure(1.23e-16), "1,234"], ["jax", Figure(0), "987"]]
    rows.append(["a", Figure("nan"), "5"])
    assert table(["backend", "Y", "images/s"], rows) == (
        "backend        Y  images/s\n"
        "-------  -------  --------\n"
        "torch    1.2e-16     1,234\n"
        "jax            0       987\n"
        "a            nan         5"
    )
