"""Statistics taken anew: the moving averages become those of a whole data set."""

from collections.abc import Callable, Container, Iterable
from typing import Any

import numpy
from mxnet import autograd, np
from mxnet.gluon import Block

from bn_from_scratch.backends.mxnet.models import copying
from bn_from_scratch.backends.mxnet.models.surgery import (
    batch_norms,
    check_model,
    norms_of,
    state_of,
)
from bn_from_scratch.surgery import trees
from bn_from_scratch.surgery.reestimation import Inputs, Statistics, pooled


def reestimate(model: Block, batches: Iterable[Any]) -> Block:
    """A new model whose moving averages are the statistics of all values in `batches`.

    batches: inputs of the model: arrays, tuples of several or dicts of named ones.
    Each batch norm normalizes them by the batch, as in training, and everything else
    predicts: a dropout drops nothing.  One that is frozen stays as it is.
    ValueError if there is no batch, or no batch norm that it reaches.
    (Ioffe and Szegedy 2015, algorithm 2, with (16) for the variance.)
    """
    found = pooled_statistics(model, batches)
    model = copying.copied(model)
    for path, values in found.items():
        state = state_of(norms_of(model)[path])
        for name, v in values.items():
            state[name].set_data(np.array(v, dtype=state[name].dtype))
    return model


def pooled_statistics(model: Block, batches: Iterable[Any]) -> dict[str, Statistics]:
    """{path: {"moving_mean", "moving_var"}}: what `reestimate` writes."""
    check_model(model, "re-estimated")
    inputs = (inputs_of_norms(model, X) for X in batches)
    return pooled(inputs, batch_norms(model))


def inputs_of_norms(model: Block, X: Any) -> Inputs:
    """{path: [what each batch norm is given]} while all of them take the batch's."""
    return recorded(model, X)[0]


def run_in_training(
    model: Block, X: Any, paths: Container[str] | None = None
) -> tuple[Inputs, dict[str, numpy.ndarray]]:
    """A prediction in which these batch norms take the batch's statistics, or all.

    Returns {path: [what each of them is given]} and what the model answers.
    """
    found, answer = recorded(model, X, paths)
    return found, trees.flat(answer, copying.as_array)


def recorded(
    model: Block, X: Any, paths: Container[str] | None = None
) -> tuple[Inputs, Any]:
    """`run_in_training`, with the answer as it comes."""
    described, model = batch_norms(model), copying.copied(model)
    found: Inputs = {}
    model.hybridize(False)
    for path, layer in norms_of(model).items():
        moves = described[path].settings["frozen"] != "all"
        if moves and (paths is None or path in paths):
            found[path] = []

            def record(layer: Block, inputs: Any, path: str = path) -> None:
                found[path].append(inputs[0].asnumpy())

            layer.register_forward_pre_hook(record)
            vars(layer)["forward"] = in_training(layer.forward)
    with autograd.predict_mode():
        return found, copying.called(model, X)


def in_training(forward: Callable) -> Callable:
    """The forward of one layer as in training: Gluon has one mode for all of them."""

    def trained(*args: Any) -> Any:
        with autograd.train_mode():
            return forward(*args)

    return trained
