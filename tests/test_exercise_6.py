"""Exercise 6 in the hands of a student: right answers pass, wrong ones are named."""

import functools

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from bn_from_scratch.course import experiments  # noqa: E402
from bn_from_scratch.course.exercises import exercise_6  # noqa: E402

NOTHING = "Nothing is written yet: replace the `...` above and run this cell again.\n"
NORMS = ("bn1", "bn2", "bn3", "bn4")


def build(rate, **options):
    model = experiments.network(dropout=rate, **options)
    model.dropout3 = nn.Identity()
    return model


class Always(nn.Module):
    def forward(self, X):
        return nn.functional.dropout(X, 0.4, training=True)


def build_always(rate):
    model = build(rate)
    model.dropout4 = Always()
    return model


def accuracy(model, images, labels, training=False):
    X = torch.from_numpy(images[:, None].astype(np.float32) / 255)
    with torch.no_grad():
        predicted = model.train(training)(X).argmax(1)
    return (predicted.numpy() == labels).mean().item()


def gap(model, data, sign=1, factor=1, training=False, parts=(1, 1)):
    train = accuracy(model, data.train_images, data.train_labels, training)
    test = accuracy(model, data.test_images, data.test_labels, training)
    return factor * sign * (parts[0] * train - parts[1] * test)


def shift(model, X, training=False, change=lambda ratio: ratio):
    """The variances seen by hooks, as a student would do it."""
    ratios, hooks = {}, []
    for name in NORMS:

        def look(layer, args, name=name):
            var = torch.var(args[0].movedim(1, 0).flatten(1), 1)
            ratios[name] = change(var / layer.moving_var)

        hooks.append(model.get_submodule(name).register_forward_pre_hook(look))
    with torch.no_grad():
        model.train(training)(X)
    for hook in hooks:
        hook.remove()
    return ratios


def printed(capsys, check, answer):
    check(answer)
    return capsys.readouterr().out.splitlines()


CHECKS = (exercise_6.check, exercise_6.check_gap, exercise_6.check_shift)


@pytest.mark.parametrize(
    "check, answer",
    [
        (CHECKS[0], build),
        (CHECKS[0], functools.partial(build, activation=nn.ReLU)),
        (CHECKS[0], functools.partial(build, before=False)),
        (CHECKS[1], gap),
        (CHECKS[1], lambda model, data: np.float64(gap(model, data))),
        (CHECKS[2], shift),
    ],
)
def test_a_right_answer_passes(capsys, check, answer):
    assert printed(capsys, check, answer) == ["Right."]


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("answer", [..., lambda *_: ..., lambda *_: None])
def test_what_is_not_written_is_said(capsys, check, answer):
    check(answer)
    assert capsys.readouterr().out == NOTHING


MOVED = "the moving statistics changed: measure in prediction mode"
WRONG = {
    "no dropout": (
        CHECKS[0],
        lambda rate: build(0.0),
        ["0% of the inputs of dense3 are dropped, not 40%"],
    ),
    "the rate of those that stay": (
        CHECKS[0],
        lambda rate: build(1 - rate),
        ["60% of the inputs of dense3 are dropped, not 40%"],
    ),
    "dropout before bn4": (
        CHECKS[0],
        lambda rate: experiments.network(dropout=rate),
        ["bn4 stands behind a dropout"],
    ),
    "dropout in prediction": (
        CHECKS[0],
        build_always,
        ["two predictions differ: dropout must act in training only"],
    ),
    "no norms": (
        CHECKS[0],
        lambda rate: experiments.network(None, dropout=rate),
        ["the call ended in AttributeError: Sequential has no attribute `bn1`"],
    ),
    "an error": (
        CHECKS[0],
        lambda rate: {}["x"],
        ["the call ended in KeyError: 'x'"],
    ),
    "the sign": (
        CHECKS[1],
        functools.partial(gap, sign=-1),
        ["the sign is wrong"],
    ),
    "percent": (
        CHECKS[1],
        functools.partial(gap, factor=100),
        ["give a share of 1, no percent"],
    ),
    "training only": (
        CHECKS[1],
        functools.partial(gap, parts=(1, 0)),
        ["this is the training accuracy"],
    ),
    "test only": (
        CHECKS[1],
        functools.partial(gap, parts=(0, -1)),
        ["this is the test accuracy"],
    ),
    "a word": (
        CHECKS[1],
        lambda model, data: "large",
        ["the gap of this network is 0.3, not large"],
    ),
    "upside down": (
        CHECKS[2],
        functools.partial(shift, change=lambda ratio: 1 / ratio),
        [f"{name}: the ratio is upside down" for name in NORMS],
    ),
    "standard deviations": (
        CHECKS[2],
        functools.partial(shift, change=torch.sqrt),
        [f"{n}: take the ratio of variances, not of their roots" for n in NORMS],
    ),
    "one number": (
        CHECKS[2],
        functools.partial(shift, change=torch.mean),
        [
            f"{name}: these are not its {n} ratios"
            for name, n in zip(NORMS, (6, 16, 120, 84), strict=True)
        ],
    ),
    "no dictionary": (
        CHECKS[2],
        lambda model, X: list(shift(model, X).values()),
        [
            f"{name}: these are not its {n} ratios"
            for name, n in zip(NORMS, (6, 16, 120, 84), strict=True)
        ],
    ),
}


@pytest.mark.parametrize("check, answer, messages", WRONG.values(), ids=WRONG)
def test_a_wrong_answer_is_named(capsys, check, answer, messages):
    assert printed(capsys, check, answer) == [f"Not yet: {m}" for m in messages]


@pytest.mark.parametrize(
    "check, answer", [(CHECKS[1], gap), (CHECKS[2], shift)], ids=["gap", "shift"]
)
def test_measuring_in_training_mode_is_named(capsys, check, answer):
    lines = printed(capsys, check, functools.partial(answer, training=True))
    assert f"Not yet: {MOVED}" in lines
