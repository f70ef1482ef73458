"""A checker that says which mistake was made: `check(...)`, `bn check`, `bn grade`.

An answer runs in a process of its own (`sandbox`, `worker`, `adapters`), which makes
the calls of `tasks`.  What comes back is compared with the spec, taken apart into
`model.Steps`; where they differ, `judge` looks for the `mistakes` under which the spec
answers the same.  `verdict` puts that into words, `grade` does so for a class.
"""

import os
import pathlib
from typing import Any

from bn_from_scratch import backends
from bn_from_scratch.checker import sandbox, tasks
from bn_from_scratch.checker.verdict import Verdict, verdict_on

__all__ = ["Verdict", "assert_right", "check"]


def __dir__() -> list[str]:
    return __all__


def check(
    *answers: Any, framework: str | None = None, only: str | None = None, **limits: int
) -> Verdict | None:
    """Judge an answer: functions and classes, or the path of a file or notebook.

    Functions are known by their names: batch_stats, normalize, update_moving,
    batch_norm, batch_norm_backward, BatchNorm, and the others of `tasks.CASES`.
    framework: numpy, torch, tensorflow, jax or mxnet; found out where it is not given.
    only: one name of a file.  limits: seconds=120, memory=2048 (MB).  Returns a
    Verdict, whose text says what is wrong.
    """
    if os.environ.get(sandbox.CHECKING):
        return None  # the answer is being checked already
    framework = backends.named(framework) if framework else None
    if len(answers) == 1 and isinstance(answers[0], str | os.PathLike):
        path = pathlib.Path(answers[0])
        if not path.is_file():
            raise FileNotFoundError(f"the answer must be a file; {path} is none")
        if only is not None and only not in tasks.CASES:
            names = ", ".join(tasks.CASES)
            raise ValueError(f"what is checked must be one of {names}; got {only!r}")
        wanted = [only] if only else None
        return verdict_on(path, path.name, framework, wanted, **limits)
    objects = {thing.__name__: thing for thing in answers}
    return verdict_on(objects, ", ".join(objects), framework, None, **limits)


def assert_right(answer: Any, **options: Any) -> None:
    """Raise AssertionError with what is wrong, if anything is: for pytest."""
    found = check(answer, **options)  # None: the answer is being checked already
    if found is not None and not found.complete:
        raise AssertionError(f"\n{found}")
