"""Run a Flax module with other answers in the place of some of its layers.

Layers that user code makes on its way cannot be exchanged; their calls can.
"""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from flax import linen as nn
from flax import nnx
from flax.core import DenyList
from flax.typing import VariableDict

from bn_from_scratch.backends.jax.models import exact
from bn_from_scratch.surgery import proof, trees

# How a module may call the mode, and what it is called in training.
# answer(layer, args, kwargs) -> what the layer answers, or None for its own answer
Answer = Callable[[nn.Module, tuple[Any, ...], dict[str, Any]], Any]

MODES = {"training": True, "train": True, "is_training": True}
MODES |= {"use_running_average": False, "deterministic": False}


class Rewired(nn.Module):
    """A module where `answers` answer the calls of some layers.

    Each is called with (layer, args, kwargs); None means that the layer itself answers.
    What one of them calls is for those after it.  The variables lie where the module
    has them.  Of its methods there is only `__call__`.
    cloned: `clone` of the module; as a field it would have a place among the variables.
    """

    cloned: Callable[..., nn.Module]
    answers: tuple[Answer, ...]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        first, answered = 0, False

        def intercept(next_call, args, kwargs, context):
            nonlocal first, answered
            if context.method_name != "__call__":
                return next_call(*args, **kwargs)
            before = first
            for place in range(first, len(self.answers)):
                first = place + 1
                try:
                    Y = self.answers[place](context.module, args, kwargs)
                finally:
                    first = before
                if Y is not None:
                    answered = True
                    return Y
            return next_call(*args, **kwargs)

        with nn.intercept_methods(intercept):
            Y = self.cloned(parent=self.scope)(*args, **kwargs)
        if not answered:
            raise ValueError("the model must have a batch norm; it has none")
        return Y


def rewired(model: nn.Module, answer: Answer) -> Rewired:
    """A module where `answer(layer, args, kwargs)` answers the calls of some layers."""
    if isinstance(model, Rewired):
        return Rewired(model.cloned, (*model.answers, answer))
    return Rewired(model.clone, (answer,))


def arguments(model: nn.Module | nnx.Module, X: Any, training: bool) -> trees.Arguments:
    """The arguments of a call with X, an input or several, in a mode.

    The mode is the argument that the module has for it: {"train": True}, or none.
    """
    model = model.cloned.__self__ if isinstance(model, Rewired) else model
    _, *taken = inspect.signature(type(model).__call__).parameters.values()
    mode = {p.name: MODES[p.name] == training for p in taken if p.name in MODES}
    args, kwargs = trees.arguments(X, [p for p in taken if p.name not in MODES])
    return args, kwargs | mode


def packed(X: Any) -> tuple[list[Any], Any]:
    """The arrays in a tree of inputs, and the rest, which JAX must not trace."""
    leaves, form = jax.tree.flatten(X)
    kinds = jax.Array, np.ndarray, np.generic
    rest = tuple((i, v) for i, v in enumerate(leaves) if not isinstance(v, kinds))
    return [v for v in leaves if isinstance(v, kinds)], (form, rest)


def unpacked(arrays: list[Any], rest: Any) -> Any:
    """The inverse of `packed`."""
    (form, others), arrays = rest, list(arrays)
    for i, v in others:
        arrays.insert(i, v)
    return jax.tree.unflatten(form, arrays)


def given(variables: VariableDict | None) -> VariableDict:
    """The variables of a linen module; ValueError if they were left out."""
    if variables is None:
        raise ValueError(
            "a linen module has its variables beside it; variables is None"
        )
    return variables


def run(
    model: nn.Module, variables: VariableDict | None, X: Any, training: bool = False
) -> tuple[Any, Any]:
    """What a module answers, and the variables it moves.

    X: an input, a tuple of several or a dict of named ones.  Without variables `init`
    makes some.
    """
    args, kwargs = arguments(model, X, training)
    rngs = {"params": jax.random.key(0)}  # the other streams are drawn from it
    if variables is None:
        return model.init_with_output(rngs, *args, **kwargs)
    # What is mutable would be made where it is missing: a lost gamma as 1.
    moves = DenyList("params")
    return model.apply(variables, *args, mutable=moves, rngs=rngs, **kwargs)


def trace(
    model: nn.Module,
    variables: VariableDict | None,
    X: Any,
    note: Callable[[nn.Module, tuple[Any, ...], dict[str, Any], Any], None],
) -> None:
    """Call `note(layer, args, kwargs, Y)` for each call of a layer on X, in order.

    Nothing is computed: the arrays are shapes.  A layer that answers for another is
    called at the same path, and before that one has its Y: it alone counts.
    """
    paths = []

    def intercept(next_call, args, kwargs, context):
        before = len(paths)
        Y = next_call(*args, **kwargs)
        if context.method_name != "__call__" or context.module.path in paths[before:]:
            return Y
        paths.append(context.module.path)
        note(context.module, args, kwargs, Y)
        return Y

    with nn.intercept_methods(intercept):
        arrays, rest = packed(X)
        jax.eval_shape(lambda v, X: run(model, v, unpacked(X, rest)), variables, arrays)


def outputs(
    model: nn.Module,
    variables: VariableDict,
    X: Any,
    modes: Sequence[str],
    in_float64: bool = True,
) -> dict[str, dict[str, np.ndarray]]:
    """{mode: {place: array}}: what a module answers in these modes."""
    with proof.in_float64(in_float64, exact.ERRORS), exact.arithmetic(in_float64):
        if in_float64:
            variables, X = exact.widened((variables, X))
        answers = {m: run(model, variables, X, m == "training")[0] for m in modes}
        return {mode: exact.arrays(Y) for mode, Y in answers.items()}
