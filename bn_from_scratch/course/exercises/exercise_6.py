"""Exercise 6: batch norm and dropout.  Judges a network and two measurements."""

from typing import Any

import torch

from bn_from_scratch.course import experiments
from bn_from_scratch.course.exercises import Answer, report
from bn_from_scratch.data import Dataset

NORMS = ("bn1", "bn2", "bn3", "bn4")
X = torch.rand(60, 1, 28, 28, generator=torch.Generator().manual_seed(6))
MOVED = "the moving statistics changed: measure in prediction mode"


def check(build: Answer, rate: float = 0.4) -> bool:
    """`build(rate)`: a LeNet with four norms and a dropout that no norm follows."""
    model, problems = _attempt(build, rate)
    if model is not None:
        passes, problems = _attempt(_passes, model)
    if model is None or problems:
        return report(problems)
    a, b, calm, still = passes
    if not torch.equal(calm["dense3"], still["dense3"]):
        problems += ["two predictions differ: dropout must act in training only"]
    behind = [name for name in NORMS if not torch.equal(a[name], b[name])]
    problems += [f"{name} stands behind a dropout" for name in behind]
    a, b = a["dense3"] != 0, b["dense3"] != 0
    lost = ((a ^ b).sum() / (a | b).sum()).item() / 2  # p (1 - p) / (1 - p^2)
    found = round(20 * lost / (1 - lost)) / 20
    if abs(found - rate) > 0.01:
        problems += [f"{found:.0%} of the inputs of dense3 are dropped, not {rate:.0%}"]
    return report(problems)


def check_gap(gap: Answer) -> bool:
    """`gap(model, data)`: accuracy on the training set less that on the test set."""
    model: Any = experiments.network(dropout=0.5)
    images = (X[:, 0] * 255).byte().numpy()
    labels = model.eval()(torch.from_numpy(images[:, None] / 255).float()).argmax(1)
    labels[28:52] = (labels[28:52] + 1) % 10  # 28 of 40 are right, and 8 of 20
    labels = labels.numpy()
    data = Dataset("noise", images[:40], labels[:40], images[40:], labels[40:])
    found, problems = _attempt(gap, model.train(), data)
    if found is None:
        return report(problems)
    known = {
        0.3: [],
        -0.3: ["the sign is wrong"],
        30: ["give a share of 1, no percent"],
    }
    known |= {
        0.7: ["this is the training accuracy"],
        0.4: ["this is the test accuracy"],
    }
    near = [v for k, v in known.items() if _close(found, torch.tensor(k), 1e-5)]
    problems += near[0] if near else [f"the gap of this network is 0.3, not {found}"]
    return report(problems + [MOVED] * model.bn1.moving_mean.any().item())


def check_shift(shift: Answer) -> bool:
    """`shift(model, X)`: {norm: variance of its input in prediction / moving_var}."""
    model: Any = experiments.network(dropout=0.5)
    layers = {name: model.get_submodule(name) for name in NORMS}
    for layer in layers.values():
        layer.moving_var.copy_(torch.linspace(0.01, 0.09, len(layer.moving_var)))
    moving = {name: layer.moving_var.clone() for name, layer in layers.items()}
    inputs = _inputs(model, False)
    given, problems = _attempt(shift, model.train(), X)
    if given is None:
        return report(problems)
    for name in NORMS:
        var = inputs[name].transpose(0, 1).flatten(1).var(1, correction=0)
        ratio = var / moving[name]
        found = given.get(name) if isinstance(given, dict) else None
        if _close(found, 1 / ratio, 0.03):
            problems += [f"{name}: the ratio is upside down"]
        elif _close(found, ratio.sqrt(), 0.03):
            problems += [f"{name}: take the ratio of variances, not of their roots"]
        elif not _close(found, ratio, 0.03):
            problems += [f"{name}: these are not its {len(ratio)} ratios"]
    still = torch.equal(model.bn1.moving_var, moving["bn1"])
    return report(problems + [MOVED] * (not still))


def _attempt(function: Answer, *args: Any) -> tuple[Any, Any]:
    """What a call returns, and the problem; None and None where nothing is written."""
    try:
        found = None if function is ... else function(*args)
    except Exception as error:
        return None, [f"the call ended in {type(error).__name__}: {error}"]
    return (None, None) if found is None or found is ... else (found, [])


def _passes(model: Any) -> list[dict[str, torch.Tensor]]:
    with torch.random.fork_rng():
        torch.manual_seed(6)
        return [_inputs(model, training) for training in (True, True, False, False)]


@torch.no_grad()
def _inputs(model: Any, training: bool) -> dict[str, torch.Tensor]:
    """What enters the norms and the classifier.  -> {name: tensor}"""
    seen, hooks = {}, []
    for name in (*NORMS, "dense3"):
        keep = lambda _, args, name=name: seen.update({name: args[0].clone()})  # noqa: E731
        hooks.append(model.get_submodule(name).register_forward_pre_hook(keep))
    model.train(training)(X)
    for hook in hooks:
        hook.remove()
    return seen


def _close(given: Any, wanted: torch.Tensor, tolerance: float) -> bool:
    try:
        given = torch.as_tensor(given).detach().float()
    except Exception:  # no number at all
        return False
    return given.shape == wanted.shape and torch.allclose(
        given, wanted.float(), tolerance
    )
