"""Exercise 5 in the hands of a student: right answers pass, wrong ones are named."""

import functools

import pytest

torch = pytest.importorskip("torch")

from bn_from_scratch import torch as bn  # noqa: E402
from bn_from_scratch.course import experiments  # noqa: E402
from bn_from_scratch.course.exercises import exercise_5  # noqa: E402

NOTHING = "Nothing is written yet: replace the `...` above and run this cell again.\n"


def build(learned, norm=bn.BatchNorm):
    scale, center = learned in ("both", "gamma"), learned in ("both", "beta")
    return experiments.network(functools.partial(norm, scale=scale, center=center))


def build_by_gradient(learned):
    model = experiments.network(bn.builtin)
    for name, p in model.named_parameters():
        if name.startswith("bn"):
            kind = "gamma" if name.endswith("weight") else "beta"
            p.requires_grad = learned in ("both", kind)
    return model


def carry(trained, names=("gamma", "beta"), seed=0, statistics=False):
    model = experiments.network(seed=seed)
    for i in range(1, 5):
        old, new = (m.get_submodule(f"bn{i}") for m in (trained, model))
        with torch.no_grad():
            for name in names:
                getattr(new, name).copy_(getattr(old, name))
            if statistics:
                new.moving_mean.copy_(old.moving_mean)
        new.frozen = "affine"
    return model


def carry_changing(trained):
    model = carry(trained)
    with torch.no_grad():
        trained.bn2.gamma.fill_(1)
    return model


def frozen(learned, kind):
    return experiments.network(functools.partial(bn.BatchNorm, frozen=kind))


def everything_fixed(learned):
    return build(learned).requires_grad_(False)


def printed(capsys, check, answer):
    check(answer)
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("answer", [build, build_by_gradient])
def test_a_right_network_passes(capsys, answer):
    assert printed(capsys, exercise_5.check, answer) == ["Right."]


def test_a_right_transplant_passes(capsys):
    assert printed(capsys, exercise_5.check_carry, carry) == ["Right."]


@pytest.mark.parametrize("check", [exercise_5.check, exercise_5.check_carry])
@pytest.mark.parametrize("answer", [..., lambda _: ..., lambda _: None])
def test_what_is_not_written_is_said(capsys, check, answer):
    check(answer)
    assert capsys.readouterr().out == NOTHING


WRONG = {
    "swapped": (
        lambda c: build({"gamma": "beta", "beta": "gamma"}.get(c, c)),
        'Not yet: with "gamma", bn1.gamma does not change in training',
    ),
    "all learned": (
        lambda c: build("both"),
        'Not yet: with "gamma", bn1.beta changes in training',
    ),
    "gamma at 0": (
        lambda c: build(c, functools.partial(bn.BatchNorm, gamma_initializer=0)),
        'Not yet: with "both", bn1.gamma does not begin at the value it should have',
    ),
    "statistics fixed": (
        lambda c: frozen(c, "all"),
        'Not yet: with "none", bn1.moving_mean is fixed too; '
        "fix nothing but gamma and beta",
    ),
    "all fixed": (
        everything_fixed,
        'Not yet: with "both", nothing at all is learned in this network',
    ),
    "no norm": (
        lambda c: experiments.network(None),
        "Not yet: return a LeNet as experiments.network builds it, with four norms",
    ),
    "no network": (
        lambda c: 3,
        "Not yet: the function raised AttributeError: "
        "'int' object has no attribute 'train'",
    ),
    "an error": (
        lambda c: {}["x"],
        "Not yet: the function raised KeyError: 'x'",
    ),
}


@pytest.mark.parametrize("answer, message", WRONG.values(), ids=WRONG)
def test_a_wrong_network_is_named(capsys, answer, message):
    lines = printed(capsys, exercise_5.check, answer)
    assert message in lines
    assert "Right." not in lines


WRONG_CARRY = {
    "the trained network": (
        lambda trained: trained,
        "conv1.weight is the trained one; only gamma and beta should be",
    ),
    "statistics too": (
        functools.partial(carry, statistics=True),
        "bn1.moving_mean is the trained one; only gamma and beta should be",
    ),
    "the weights too": (
        functools.partial(carry, seed=1),
        "conv1.weight is the trained one; only gamma and beta should be",
    ),
    "beta forgotten": (
        functools.partial(carry, names=["gamma"]),
        "bn1.beta does not begin at the value it should have",
    ),
    "the trained changed": (
        carry_changing,
        "the trained network itself was changed; build another one",
    ),
    "not fixed": (
        lambda trained: experiments.network(),
        "bn1.gamma does not begin at the value it should have",
    ),
}


@pytest.mark.parametrize("answer, message", WRONG_CARRY.values(), ids=WRONG_CARRY)
def test_a_wrong_transplant_is_named(capsys, answer, message):
    lines = printed(capsys, exercise_5.check_carry, answer)
    assert f"Not yet: {message}" in lines
    assert "Right." not in lines
