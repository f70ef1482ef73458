"""Activation checkpointing, which runs a forward pass again in the backward pass."""

from collections import deque
from typing import Any

import torch
from torch import Tensor

MOST = 64  # forward passes whose recomputation is still to come
Seen = tuple[Tensor, ...]


def recomputing() -> bool:
    """Does torch.utils.checkpoint run this forward pass again?

    A forward pass within a backward pass is a recomputation, reentrant or not.  What a
    compiler traces knows of neither; it recomputes from what it has saved.
    """
    compiling = torch.compiler.is_compiling()
    return not compiling and torch._C._current_graph_task_id() != -1


class FirstRuns:
    """What the last forward passes saw of averages that they then moved.

    A recomputation is known by the mean of its batch, which is that of its first run.
    """

    def __init__(self) -> None:
        self.runs: deque[tuple[Tensor, Seen]] = deque(maxlen=MOST)

    def note(self, mean: Tensor, seen: Seen) -> Seen:
        """Remember what a first run saw; returns it."""
        functorch: Any = torch._C._functorch  # pyright: ignore[reportAttributeAccessIssue]
        transformed = functorch.peek_interpreter_stack() is not None
        if not (transformed or torch.compiler.is_compiling()):
            self.runs.appendleft((mean.detach(), tuple(v.detach() for v in seen)))
        return seen

    def of(self, mean: Tensor) -> Seen:
        """What the first run of this batch saw; ValueError if none is known."""
        for first, seen in self.runs:
            if first.shape == mean.shape and torch.equal(first, mean.detach()):
                return seen
        raise ValueError(
            "a recomputation of renorm must follow its first run, which moved the "
            "averages; the first run of this batch is not known: give update=False"
        )

    def __deepcopy__(self, memo: Any) -> "FirstRuns":
        return FirstRuns()

    def __reduce__(self) -> Any:
        return FirstRuns, ()
