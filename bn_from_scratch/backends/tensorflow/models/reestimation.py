"""Statistics taken anew: the moving averages become those of a whole data set."""

from collections.abc import Callable, Collection, Iterable
from typing import Any

import keras
import numpy as np

from bn_from_scratch.backends.tensorflow.models import copying
from bn_from_scratch.backends.tensorflow.models.surgery import (
    batch_norms,
    check_model,
    norms_of,
    state_of,
)
from bn_from_scratch.surgery.reestimation import Inputs, Statistics, pooled


def reestimate(model: keras.Model, batches: Iterable[Any]) -> keras.Model:
    """A new model whose moving averages are the statistics of all values in `batches`.

    batches: inputs of the model: arrays, tuples of several or dicts of named ones.
    Each batch norm normalizes them by the batch, as in training, and everything else
    predicts: a dropout drops nothing.  One that is frozen or not trainable stays as it
    is.  ValueError if there is no batch, or no batch norm that it reaches.
    (Ioffe and Szegedy 2015, algorithm 2, with (16) for the variance.)
    """
    found = pooled_statistics(model, batches)
    new = copying.rebuilt(model)
    layers = norms_like(model, new)
    for path, values in found.items():
        state = state_of(layers[path])
        for name, v in values.items():
            state[name].assign(v)
    return new


def norms_like(model: keras.Model, copy: keras.Model) -> dict[str, Any]:
    """{path in a model: layer of its copy}: names in custom layers may be others."""
    return dict(zip(norms_of(model), norms_of(copy).values(), strict=True))


def pooled_statistics(
    model: keras.Model, batches: Iterable[Any]
) -> dict[str, Statistics]:
    """{path: {"moving_mean", "moving_var"}}: what `reestimate` writes."""
    check_model(model, "re-estimated")
    inputs = (inputs_of_norms(model, X) for X in batches)
    return pooled(inputs, batch_norms(model))


def inputs_of_norms(model: keras.Model, X: Any) -> Inputs:
    """{path: [what each batch norm is given]} while all of them take the batch's."""
    return recorded(model, X)[0]


def run_in_training(
    model: keras.Model, X: Any, paths: Collection[str] | None = None
) -> tuple[Inputs, dict[str, np.ndarray]]:
    """A prediction in which these batch norms take the batch's statistics, or all.

    Returns {path: [what each of them is given]} and what the model answers.
    """
    found, answer = recorded(model, X, paths)
    return found, copying.arrays(answer)


def recorded(
    model: keras.Model, X: Any, paths: Collection[str] | None = None
) -> tuple[Inputs, Any]:
    """`run_in_training`, with the answer as it comes."""
    copy, found = copying.rebuilt(model), {}
    for path, layer in norms_like(model, copy).items():
        moves = layer.trainable and getattr(layer, "frozen", None) != "all"
        if moves and (paths is None or path in paths):
            found[path] = []
            layer.call = in_training(layer.call, found[path])
    return found, copy(copying.as_inputs(X), training=False)


def in_training(
    call: Callable[..., Any], inputs: list[np.ndarray]
) -> Callable[..., Any]:
    """The call of one layer as in training, with its inputs added to a list."""

    def trained(X, *args, **kwargs):
        given: Any = keras.ops.convert_to_numpy(X)
        inputs.append(given)
        return call(X, *args, **kwargs | {"training": True})

    return trained
