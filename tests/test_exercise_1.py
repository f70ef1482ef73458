"""The check of exercise 1: right answers pass, wrong ones are named."""

import copy

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from bn_from_scratch import torch as bn  # noqa: E402
from bn_from_scratch.course.exercises import exercise_1  # noqa: E402
from bn_from_scratch.course.experiments import LAYERS, network  # noqa: E402

NOTHING = "Nothing is written yet: replace the `...` above and run this cell again.\n"


def without_bias(given, *, copied=True, beta=False, sign=-1, layers=LAYERS):
    model = copy.deepcopy(given) if copied else given
    for i, name in enumerate(LAYERS, 1):
        layer, norm = model.get_submodule(name), model.get_submodule(f"bn{i}")
        if name in layers:
            with torch.no_grad():
                if beta:
                    slope = norm.gamma / torch.sqrt(norm.moving_var + norm.eps)
                    norm.beta += slope * layer.bias
                else:
                    norm.moving_mean += sign * layer.bias
            layer.bias = None
    return model


def with_builtin_norms():
    return network(bn.builtin, bias=False)


def without_last_bias():
    model = network(bias=False)
    model.dense3.bias = None
    return model


def another_output():
    model = network(bias=False)
    model.dense3 = nn.Linear(84, 12)
    return model


def forgets_gamma(given):
    model = without_bias(given)
    nn.init.ones_(model.bn2.gamma)
    return model


LEAN = {
    network: [f"layer {name} still has a bias in front of its norm" for name in LAYERS],
    without_last_bias: ["layer dense3 needs its bias: no norm follows"],
    lambda: network(None): ["0 layers stand in front of a batch norm, not 4"],
    lambda: network(where=(1, 2), bias=False): [
        "2 layers stand in front of a batch norm, not 4"
    ],
    lambda: network(before=False): ["0 layers stand in front of a batch norm, not 4"],
    another_output: ["8 images give the shape (8, 12), not (8, 10)"],
    lambda: 3: ["a torch.nn.Module is wanted, not int"],
    lambda: 1 / 0: ["the call ended in ZeroDivisionError: division by zero"],
}
FOLDED = {
    lambda m: without_bias(m, sign=0): [
        "the biases are gone, but the moving means still contain them"
    ],
    lambda m: without_bias(m, sign=1): ["the moving means went up by the biases"],
    lambda m: without_bias(m, beta=True): [
        "the biases moved into beta; in training the batch norm had cancelled them"
    ],
    lambda m: without_bias(m, copied=False): [
        "the network that was given has changed: work on a copy of it"
    ],
    lambda m: without_bias(m, layers=LAYERS[1:]): [
        "layer conv1 still has a bias in front of its norm"
    ],
    forgets_gamma: ["the output is not that of the network that was given"],
    lambda: None: [
        "the call ended in TypeError: <lambda>() takes 0 positional arguments but 1 "
        "was given"
    ],
}


def verdict(problems):
    return "".join(f"Not yet: {problem}\n" for problem in problems) or "Right.\n"


@pytest.mark.parametrize("answer", [lambda: network(bias=False), with_builtin_norms])
def test_a_lean_network_is_right(answer, capsys):
    assert exercise_1.check(answer)
    assert capsys.readouterr().out == verdict([])


def test_folding_is_right(capsys):
    assert exercise_1.check_folding(without_bias)
    assert capsys.readouterr().out == verdict([])


@pytest.mark.parametrize("answer", LEAN)
def test_a_network_that_is_not_lean(answer, capsys):
    assert not exercise_1.check(answer)
    assert capsys.readouterr().out == verdict(LEAN[answer])


@pytest.mark.parametrize("answer", FOLDED)
def test_wrong_folding(answer, capsys):
    assert not exercise_1.check_folding(answer)
    assert capsys.readouterr().out == verdict(FOLDED[answer])


@pytest.mark.parametrize("check", [exercise_1.check, exercise_1.check_folding])
@pytest.mark.parametrize("answer", [..., lambda *network: None])
def test_nothing_written(check, answer, capsys):
    assert not check(answer)
    assert capsys.readouterr().out == NOTHING
