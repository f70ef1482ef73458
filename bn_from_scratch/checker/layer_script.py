"""What a layer is put through: one script, for the student's layer and for the spec's.

The adapters wrap the student's layer in an object with the methods of `ModelLayer`,
which is the spec with given `Steps`.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from bn_from_scratch import spec
from bn_from_scratch.checker import model
from bn_from_scratch.checker.cases import (
    CHANNEL_AXES,
    SHAPES,
    Case,
    Output,
    inputs,
    layout,
    once,
)

WRONG: tuple[str, ...] = (
    "another rank",
    "one value per channel",
    "another number of channels",
)
REFUSED, ACCEPTED = np.array(1.0), np.array(0.0)


def cases(framework: str) -> list[Case]:
    """The script for 2-D and for 4-D inputs, with inputs that must be refused."""
    found = lenient_cases(framework)
    for case in found:
        case.arguments.update(_wrong(case, framework))
    return found


def lenient_cases(framework: str) -> list[Case]:
    """The script without wrong inputs: what a framework's own layer can be held to."""
    found = []
    for name, shape in SHAPES.items():
        first, dY, _ = inputs(shape, framework)
        second = inputs(shape, framework, seed=1)[0]
        arguments = {
            "first": _faint_channel(first, framework),
            "second": _faint_channel(second, framework),
        }
        options = {"num_features": shape[1], "num_dims": len(shape)}
        found.append(Case(name, arguments, options, cotangent=dY))
    return found


def _faint_channel(X, framework):
    """X with a first channel whose variance is about eps: it shows which eps it is."""
    (scale,) = model.like(X, CHANNEL_AXES[framework], np.array([0.004, 1.0]))
    return (X * scale).round(4)


def _wrong(case, framework):
    """What a layer must refuse in training, by name."""
    X, C = case.arguments["first"], CHANNEL_AXES[framework]
    other = SHAPES["4-D" if X.ndim == 2 else "2-D"]
    single = np.ones((1, 2) + (1,) * (X.ndim - 2))
    wrong = inputs(other, framework)[0], layout(single, framework), X.take([0], C)
    return dict(zip(WRONG, wrong, strict=True))


def run(
    layer: Callable[[np.ndarray], Any], case: Case, framework: str
) -> Iterator[Output]:
    """Yield (output, function that gives it) for every event of the script, in order.

    layer: X -> a new layer, built for such an input.
    """
    first, second = case.arguments["first"], case.arguments["second"]
    one = layer(first)
    yield "a new layer: Y in prediction", lambda: one.predict(second)
    yield "batch 1: Y in training", lambda: one.train(first)
    yield "batch 2: Y in training", lambda: one.train(second)
    yield "after two batches: Y in prediction", lambda: one.predict(first)
    yield "predicted once more: Y", lambda: one.predict(first)
    if framework in ("torch", "mxnet"):  # where a mode could hang on the gradient
        yield "prediction with gradients: Y", lambda: one.predict(first, recorded=True)
        yield "predicted after that: Y", lambda: one.predict(first)
        yield "training without gradients: Y", lambda: one.train(second, recorded=False)
        yield "predicted after that too: Y", lambda: one.predict(first)
    if framework != "numpy":
        yield "saved and loaded: Y in prediction", lambda: one.reload(first)
    if framework == "tensorflow":
        yield "trainable=False: Y in training", lambda: one.frozen(second)
        yield "trainable=False: Y in prediction after it", lambda: one.predict(first)
    if WRONG[0] in case.arguments:
        for what in WRONG:
            wrong = case.arguments[what]
            yield (
                f"refuses {what}",
                lambda X=wrong, w=what: _refuses(layer(first), X, w),
            )
        yield "after an empty batch: Y in prediction", lambda: layer(first).empty(first)
    if framework != "numpy":
        two = once(lambda: layer(first).gradients(first, case.cotangent))
        yield "batch 1: dX", lambda: two()[0]
        yield "batch 1: dgamma and dbeta", lambda: two()[1]


def _refuses(layer, X, what):
    """Whether training on a wrong input raises an error.  -> 1 or 0."""
    try:
        layer.wrong(X, what)
    except Exception:
        return REFUSED
    return ACCEPTED


def expected(case: Case, framework: str, steps: model.Steps) -> Iterator[Output]:
    """The script's outputs of a layer that takes these steps."""
    return run(lambda X: ModelLayer(steps, X, framework), case, framework)


class ModelLayer:
    """The spec as a layer: what the script asks of every layer.

    >>> X = np.array([[-1.0, 3.0], [1.0, 5.0]])
    >>> layer = ModelLayer(model.RIGHT, X, "numpy")
    >>> layer.train(X).round(2).tolist()
    [[-1.0, -1.0], [1.0, 1.0]]
    """

    def __init__(self, steps: model.Steps, X: np.ndarray, framework: str) -> None:
        self.steps = steps
        axis = CHANNEL_AXES[framework]
        C = X.shape[axis]
        self.options: dict[str, Any] = {
            "eps": spec.EPS,
            "momentum": spec.MOMENTUM,
            "channel_axis": axis,
        }
        self.gamma: np.ndarray = steps.gamma_init(C)
        self.beta: np.ndarray = np.zeros(C)
        self.fresh: Sequence[np.ndarray] = steps.moving_init(C)
        self.moving: Sequence[np.ndarray] = self.fresh
        if steps.init_trains:
            self.train(X)

    def _forward(self, X, training, recorded):
        start = self.gamma, self.beta, *self.moving
        options = self.options | {"training": training, "recorded": recorded}
        return model.forward(self.steps, X, *start, **options)

    def train(self, X: np.ndarray, recorded: bool = True) -> np.ndarray:
        """Y of one batch in training; the moving averages move."""
        Y, *self.moving = self._forward(X, True, recorded)
        return Y

    def predict(self, X: np.ndarray, recorded: bool = False) -> np.ndarray:
        """Y in prediction."""
        Y, *self.moving = self._forward(X, False, recorded)
        return Y

    def reload(self, X: np.ndarray) -> np.ndarray:
        """Y in prediction of a new layer that loaded what this one saved."""
        kept, self.moving = self.moving, self.moving if self.steps.saves else self.fresh
        Y = self.predict(X)
        self.moving = kept
        return Y

    def frozen(self, X: np.ndarray) -> np.ndarray:
        """Y of a training call with trainable=False, which is prediction."""
        return self.train(X) if self.steps.frozen_trains else self.predict(X)

    def wrong(self, X: np.ndarray, what: str) -> None:
        """A training call with an input that must be refused."""
        if what not in self.steps.accepts:
            raise ValueError(what)

    def empty(self, X: np.ndarray) -> np.ndarray:
        """Y in prediction after a training call without a single example."""
        if self.steps.empty_poisons:
            return np.full(X.shape, np.nan)
        return self.predict(X)

    def gradients(self, X: np.ndarray, dY: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """dX, and dgamma and dbeta of a first batch in training."""
        start = self.gamma, self.beta, *self.moving
        options = self.options | {"training": True, "recorded": True}
        dX, *parameters = model.gradients(self.steps, dY, X, *start, **options)
        return dX, in_order(parameters)


def in_order(gradients: Iterable[np.ndarray]) -> np.ndarray:
    """The gradients of gamma and beta [2, C], whichever comes first in the layer."""
    return np.stack(sorted((np.ravel(g) for g in gradients), key=tuple))
