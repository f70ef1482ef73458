"""Exercise 5: gamma and beta, fixed, in networks that a student's function returns."""

import copy
from typing import Any

import torch
from torch.nn import functional as F

from bn_from_scratch.backends.torch.builtin import exchange_names
from bn_from_scratch.course import experiments
from bn_from_scratch.course.exercises import Answer, report

NORMS = ("bn1", "bn2", "bn3", "bn4")
OTHERS = ("conv1.weight", "bn1.moving_mean")
ABSENT = {f"{n}.gamma": torch.tensor(1.0) for n in NORMS}
ABSENT |= {f"{n}.beta": torch.tensor(0.0) for n in NORMS}
CHOICES = {"both": "gamma beta", "gamma": "gamma", "beta": "beta", "none": ""}


def check(build: Answer) -> bool:
    """`build(learned)`: a LeNet that learns "both", "gamma", "beta" or "none"."""
    problems = []
    for choice, learned in CHOICES.items():
        model, broken = _network(build, choice)
        if model is None:
            return report(broken)
        found = _step_problems(model, learned, ABSENT)
        problems += [f'with "{choice}", {problem}' for problem in found]
    return report(problems)


def check_carry(carry: Answer) -> bool:
    """`carry(trained)`: a new LeNet that has the gamma and beta of the trained one."""
    trained = experiments.network(seed=1)
    for i, (name, v) in enumerate(trained.state_dict().items()):
        if name.startswith("bn"):
            v.copy_(torch.linspace(0.5, 2, len(v)) + i)
    before = _state(trained)
    model, problems = _network(carry, trained)
    if model is None:
        return report(problems)
    both = [k for k in OTHERS if torch.equal(_state(model)[k], before[k])]
    problems += [f"{k} is the trained one; only gamma and beta should be" for k in both]
    problems += _step_problems(model, "", before)
    if any(not torch.equal(v, before[k]) for k, v in _state(trained).items()):
        problems.append("the trained network itself was changed; build another one")
    return report(problems)


def _network(function: Answer, argument: Any) -> tuple[Any, Any]:
    """What the function returns, or no network and why."""
    try:
        model = None if function is ... else function(argument)
        if model is None or model is ...:
            return None, None
        copy.deepcopy(model).train()(torch.rand(4, 1, 28, 28))
        sizes = {k: v.numel() for k, v in _state(model).items()}
        wanted = {k: v.numel() for k, v in _state(experiments.network()).items()}
        if all(sizes.get(k) in (1, n) for k, n in wanted.items() if "bias" not in k):
            return model.train(), []
    except Exception as error:
        return None, [f"the function raised {type(error).__name__}: {error}"]
    return None, ["return a LeNet as experiments.network builds it, with four norms"]


def _step_problems(
    model: Any, learned: str, values: dict[str, torch.Tensor]
) -> list[str]:
    """Do gamma and beta begin at `values`, and does a step move what is learned?"""
    X = torch.rand(16, 1, 28, 28, generator=torch.Generator().manual_seed(5))
    problems, start = [], _state(model)
    if free := [p for p in model.parameters() if p.requires_grad]:
        F.cross_entropy(model(X), torch.arange(16) % 10).backward()
        torch.optim.SGD(free, lr=1.0).step()
    moved = {k: not torch.equal(v, start[k]) for k, v in _state(model).items()}
    for name in ABSENT:
        if not torch.allclose(start[name], values[name]):
            problems.append(f"{name} does not begin at the value it should have")
        elif moved[name] != (name[4:] in learned):
            does = "changes" if moved[name] else "does not change"
            problems.append(f"{name} {does} in training")
    fixed = [k for k in OTHERS if not moved[k]]
    problems += [f"{k} is fixed too; fix nothing but gamma and beta" for k in fixed]
    return problems if free else ["nothing at all is learned in this network"]


def _state(model: Any) -> dict[str, torch.Tensor]:
    """A copy of the state; a layer without gamma has 1, one without beta 0."""
    named = {name: v.detach().clone() for name, v in exchange_names(model).items()}
    return ABSENT | named
