"""Statistics taken anew: the moving averages become those of a whole data set."""

from collections.abc import Callable, Collection, Iterable
from typing import Any

import keras
import numpy as np

from bn_from_scratch.backends.tensorflow.models import copying
from bn_from_scratch.backends.tensorflow.models.surgery import (
    batch_norms,
    norms_of,
    state_of,
)
from bn_from_scratch.surgery.reestimation import Inputs, Statistics, pooled


def reestimate(model: keras.Model, batches: Iterable[Any]) -> keras.Model:
    """A new model whose moving averages are the statistics of all values in `batches`.

    batches: inputs of the model.  Each batch norm normalizes them by the batch, as in
    training, and everything else predicts: a dropout drops nothing.  One that is frozen
    or not trainable stays as it is.
    (Ioffe and Szegedy 2015, algorithm 2, with (16) for the variance.)
    """
    found = pooled_statistics(model, batches)
    model = copying.rebuilt(model)
    for path, values in found.items():
        state = state_of(norms_of(model)[path])
        for name, v in values.items():
            state[name].assign(v)
    return model


def pooled_statistics(
    model: keras.Model, batches: Iterable[Any]
) -> dict[str, Statistics]:
    """{path: {"moving_mean", "moving_var"}}: what `reestimate` writes."""
    inputs = (inputs_of_norms(model, X) for X in batches)
    return pooled(inputs, batch_norms(model))


def inputs_of_norms(model: keras.Model, X: Any) -> Inputs:
    """{path: [what each batch norm is given]} while all of them take the batch's."""
    return run_in_training(model, X)[0]


def run_in_training(
    model: keras.Model, X: Any, paths: Collection[str] | None = None
) -> tuple[Inputs, dict[str, np.ndarray]]:
    """A prediction in which these batch norms take the batch's statistics, or all.

    Returns {path: [what each of them is given]} and what the model answers.
    """
    model, found = copying.rebuilt(model), {}
    layers: dict[str, Any] = norms_of(model)
    for path, layer in layers.items():
        moves = layer.trainable and getattr(layer, "frozen", None) != "all"
        if moves and (paths is None or path in paths):
            found[path] = []
            layer.call = recorded(layer.call, found[path])
    X = keras.tree.map_structure(keras.ops.convert_to_tensor, X)
    return found, copying.arrays(model(X, training=False))


def recorded(call: Callable[..., Any], inputs: list[np.ndarray]) -> Callable[..., Any]:
    """The call of one layer as in training, with its inputs added to a list."""

    def trained(X, *args, **kwargs):
        given: Any = keras.ops.convert_to_numpy(X)
        inputs.append(given)
        return call(X, *args, **kwargs | {"training": True})

    return trained
