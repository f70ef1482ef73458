"""Exercise 1: the bias in front of a batch norm.  Needs PyTorch."""

import copy
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import nn

from bn_from_scratch import torch as bn
from bn_from_scratch.course.exercises import Answer, attempt, report
from bn_from_scratch.course.experiments import LAYERS, network

NORMS = (bn.BatchNorm, nn.modules.batchnorm._BatchNorm)
X = torch.rand(8, 1, 28, 28, generator=torch.Generator().manual_seed(0))
FOLDED: dict[
    str, Callable[[Any, Any], Any]
] = {  # what became of the batch norm behind a layer that lost its bias b
    "": lambda v, b: v.moving_mean.sub_(b),
    "the biases are gone, but the moving means still contain them": lambda v, b: None,
    "the moving means went up by the biases": lambda v, b: v.moving_mean.add_(b),
    "the biases moved into beta; in training the batch norm had cancelled them": (
        lambda v, b: v.beta.add_(b * v.gamma / torch.sqrt(v.moving_var + v.eps))
    ),
}


def check(lean_network: Answer) -> bool:
    """`lean_network()`: LeNet with four batch norms and no bias that they cancel."""
    model, problems = attempt(lean_network)
    return report((problems or None) if model is None else lean(model))


def check_folding(without_bias: Answer) -> bool:
    """`without_bias(network)`: one without those biases that computes the same."""
    given, unknown = folded(), "the output is not that of the network that was given"
    model, problems = attempt(without_bias, given)
    problems = (problems or None) if model is None else lean(model)
    kept = given.state_dict().keys() == folded().state_dict().keys()
    if not problems and not (kept and same(given, folded())):
        problems = ["the network that was given has changed: work on a copy of it"]
    if problems or problems is None:
        return report(problems)
    found = next((m for m, how in FOLDED.items() if same(model, folded(how))), unknown)
    return report([found] if found else [])


def lean(model: Any) -> list[str]:
    """What is wrong with a network that should have no bias in front of a norm."""
    if not isinstance(model, nn.Module):
        return [f"a torch.nn.Module is wanted, not {type(model).__name__}"]
    model, calls = copy.deepcopy(model).float(), []
    names = {m: name for name, m in model.named_modules() if not list(m.children())}
    for m in names:
        m.register_forward_hook(lambda m, *_: calls.append(m))
    Y, problems = attempt(model, X)
    if problems or Y.shape != (8, 10):
        return problems or [f"8 images give the shape {tuple(Y.shape)}, not (8, 10)"]
    pairs = [(a, b) for a, b in pairwise(calls) if hasattr(a, "weight")]
    normed = [a for a, b in pairs if isinstance(b, NORMS)]
    if len(normed) != len(LAYERS):
        return [f"{len(normed)} layers stand in front of a batch norm, not 4"]
    bias = {names[m]: getattr(m, "bias", None) is not None for m in calls}
    left = [names[m] for m in normed if bias[names[m]]]
    problems = [f"layer {name} still has a bias in front of its norm" for name in left]
    lost = [] if bias[names[calls[-1]]] else [names[calls[-1]]]
    return problems + [f"layer {name} needs its bias: no norm follows" for name in lost]


def folded(how: Callable[[Any, Any], Any] | None = None) -> nn.Module:
    """A network with numbers of every kind; told how, without its biases."""
    model: Any = network()
    with torch.no_grad():
        for v in model.state_dict().values():
            v += 0.4 * torch.sin(torch.arange(1.0, len(v) + 1)) if v.ndim == 1 else 0
        if how is None:
            return model
        for i, name in enumerate(LAYERS, 1):
            how(model.get_submodule(f"bn{i}"), model.get_submodule(name).bias)
            model.get_submodule(name).bias = None
    return model


def same(model: Any, other: nn.Module) -> bool:
    """Whether two networks compute the same, in prediction and in training."""
    both = [copy.deepcopy(m).float() for m in (model, other)]
    outputs = [[m.train(mode)(X) for m in both] for mode in (False, True)]
    return all(torch.allclose(Y, other, atol=1e-4) for Y, other in outputs)
