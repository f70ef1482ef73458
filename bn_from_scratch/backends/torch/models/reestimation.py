"""Statistics taken anew: the moving averages become those of a whole data set."""

from collections.abc import Container, Iterable
from typing import Any

import numpy as np
import torch
from torch import nn

from bn_from_scratch.backends.torch.models import copying
from bn_from_scratch.backends.torch.models.surgery import (
    batch_norms,
    check_model,
    norms_of,
    numpy,
    state_of,
)
from bn_from_scratch.surgery import trees
from bn_from_scratch.surgery.reestimation import Inputs, Statistics, pooled


def reestimate(model: nn.Module, batches: Iterable[Any]) -> nn.Module:
    """A new model whose moving averages are the statistics of all values in `batches`.

    batches: inputs of the model: arrays, tuples of several or dicts of named ones.
    Each batch norm normalizes them by the batch, as in training, and everything else
    predicts: a dropout drops nothing.  One that is frozen stays as it is.
    ValueError if there is no batch, or no batch norm that it reaches.
    (Ioffe and Szegedy 2015, algorithm 2, with (16) for the variance.)
    """
    found = pooled_statistics(model, batches)
    model = copying.copied(model)
    with torch.no_grad():
        for path, values in found.items():
            state = state_of(norms_of(model)[path])
            for name in values.keys() & state.keys():  # it may keep none
                state[name].copy_(torch.as_tensor(values[name]))
    return model


def pooled_statistics(
    model: nn.Module, batches: Iterable[Any]
) -> dict[str, Statistics]:
    """{path: {"moving_mean", "moving_var"}}: what `reestimate` writes."""
    check_model(model, "re-estimated")
    inputs = (inputs_of_norms(model, X) for X in batches)
    return pooled(inputs, batch_norms(model))


def inputs_of_norms(model: nn.Module, X: Any) -> Inputs:
    """{path: [what each batch norm is given]} while all of them take the batch's."""
    return recorded(model, X)[0]


def run_in_training(
    model: nn.Module, X: Any, paths: Container[str] | None = None
) -> tuple[Inputs, dict[str, np.ndarray]]:
    """A prediction in which these batch norms take the batch's statistics, or all.

    Returns {path: [what each of them is given]} and what the model answers.
    """
    found, answer = recorded(model, X, paths)
    return found, trees.flat(answer, copying.as_array)


@torch.no_grad()
def recorded(
    model: nn.Module, X: Any, paths: Container[str] | None = None
) -> tuple[Inputs, Any]:
    """`run_in_training`, with the answer as it comes."""
    model = copying.copied(model).eval()
    found: Inputs = {}
    for path, layer in norms_of(model).items():
        if getattr(layer, "frozen", None) != "all" and (paths is None or path in paths):
            layer.train()

            def record(
                layer: nn.Module, inputs: Any, named: Any, path: str = path
            ) -> None:
                X = (*inputs, *named.values())[0]
                found.setdefault(path, []).append(numpy(X))

            layer.register_forward_pre_hook(record, with_kwargs=True)
    return found, copying.called(model, X)
