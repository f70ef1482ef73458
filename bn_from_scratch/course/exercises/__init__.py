"""Self-checks of the seven exercises: what an answer lacks, in words.

Each exercise is a file with a function `check(answer, ...)` that prints the verdict of
`report`.  It judges what the answer does, never how it is written.
"""

from typing import Any

Answer = Any  # a student's function, or `...` where nothing is written yet


def report(problems: list[str] | None) -> bool:
    """Print what is wrong with an answer, or that it is right; return whether it is."""
    if problems is None:
        print(
            "Nothing is written yet: replace the `...` above and run this cell again."
        )
        return False
    for problem in problems:
        print(f"Not yet: {problem}")
    if not problems:
        print("Right.")
    return not problems


def attempt(function: Answer, *args: Any) -> tuple[Any, list[str]]:
    """What a student's function returns (None: nothing is written), and the problem."""
    try:
        return (None if function is ... else function(*args)), []
    except Exception as error:
        return None, [f"the call ended in {type(error).__name__}: {error}"]
