"""What is asked of an answer: the calls to make, and what the spec says to each.

A task belongs to one public name of an answer (`batch_stats`, `BatchNorm`, ...) and has
cases, the smallest first.  `expected` computes what an answer with given `model.Steps`
returns: pairs (output, function that gives the array), in an order that puts what is
cheap first; the judge stops at the first that differs.  Of a gradient dX it gives the
products with `model.directions` only.
"""

import dataclasses
from collections.abc import Callable, Container, Iterable, Iterator

import numpy as np

from bn_from_scratch import lenet, spec
from bn_from_scratch.checker import layer_script, model
from bn_from_scratch.checker.cases import (
    CHANNEL_AXES,
    SHAPES,
    Case,
    Output,
    inputs,
    once,
)

EPS, MOMENTUM = 0.3, 0.2  # far from any default, so that a constant cannot pass
FAINT = "2-D, a constant and a nearly constant channel"
STATISTICS = ("mean", "var")
MOVING = ("moving_mean", "moving_var")
DIRECTED = ("dX", "batch 1: dX")  # outputs known by their products with directions
LEFT_ALONE = "arguments left alone"


def asked(names: Container[str], framework: str) -> list[str]:
    """The tasks whose public name is among `names` and that the framework has."""
    return [t for t in CASES if t in names and cases(t, framework)]


def cases(task: str, framework: str) -> list[Case]:
    """The cases of a task, in the layout of the framework."""
    return CASES[task](framework)


def expected(
    task: str, case: Case, framework: str, steps: model.Steps
) -> Iterator[Output]:
    """Yield (output, () -> array) for an answer that takes these steps."""
    yield from EXPECTED[task](case, framework, steps)
    if task not in WITHOUT_ARGUMENTS:
        yield LEFT_ALONE, lambda: np.array(0.0 if steps.in_place else 1.0)


def _batch_stats_cases(framework):
    return [
        Case(name, {"X": inputs(shape, framework)[0]}, outputs=STATISTICS)
        for name, shape in SHAPES.items()
    ]


def _batch_stats_expected(case, framework, steps):
    X = case.arguments["X"]
    mean, var = model.batch_stats(steps, X, CHANNEL_AXES[framework])
    return [("mean", lambda: mean), ("var", lambda: var)]


def _normalize_cases(framework):
    found = []
    for name, shape in SHAPES.items():
        X, _, vectors = inputs(shape, framework)
        names = ("mean", "var", "gamma", "beta")
        arguments = {"X": X} | {n: vectors[n] for n in names}
        found.append(Case(name, arguments, {"eps": EPS}, ("Y",)))
    X, vectors = _faint(framework)
    vectors |= {"mean": X[0], "var": np.array([0, 1e-4])}
    arguments = {"X": X} | {n: vectors[n] for n in names}
    return [*found, Case(FAINT, arguments, {"eps": EPS}, ("Y",))]


def _normalize_expected(case, framework, steps):
    X, mean, var, gamma, beta = case.arguments.values()
    options = case.options | {"channel_axis": CHANNEL_AXES[framework]}
    return [("Y", lambda: model.normalize(steps, X, mean, var, gamma, beta, **options))]


def _faint(framework):
    """X [5, 2], a constant and a nearly constant channel, which show eps; vectors."""
    X, _, vectors = inputs((5, 2), framework)
    return np.stack([0 * X[:, 0] + 1, 0.01 * X[:, 1]], 1).round(3), vectors


def _update_moving_cases(framework):
    vectors = inputs((5, 2), framework)[2]
    names = ("moving_mean", "moving_var", "mean", "var")
    arguments = {name: vectors[name] for name in names}
    return [
        Case(f"momentum {m}", arguments, {"momentum": m}, MOVING) for m in (0.2, 0.7)
    ]


def _update_moving_expected(case, framework, steps):
    arguments = case.arguments.values()
    mean, var = model.update_moving(steps, *arguments, **case.options)
    return [("moving_mean", lambda: mean), ("moving_var", lambda: var)]


def _batch_norm_cases(framework):
    found = []
    for name, shape in SHAPES.items():
        X, dY, vectors = inputs(shape, framework)
        names = ("gamma", "beta", "moving_mean", "moving_var")
        arguments = {"X": X} | {n: vectors[n] for n in names}
        for training in (True, False):
            options = {"training": training, "eps": EPS, "momentum": MOMENTUM}
            mode = "training" if training else "prediction"
            for recorded in (False, True) if framework != "numpy" else (False,):
                found.append(
                    Case(
                        f"{name}, {mode}{', with gradients' if recorded else ''}",
                        arguments,
                        options,
                        ("Y", *MOVING),
                        dY if recorded else None,
                    )
                )
    X, vectors = _faint(framework)
    arguments = {"X": X} | {n: vectors[n] for n in names}
    options = {"training": True, "eps": EPS, "momentum": MOMENTUM}
    return [*found, Case(FAINT, arguments, options, ("Y", *MOVING))]


def _batch_norm_expected(case, framework, steps):
    arguments = list(case.arguments.values())
    options = case.options | {"channel_axis": CHANNEL_AXES[framework]}
    recorded = case.cotangent is not None
    outputs = model.forward(steps, *arguments, recorded=recorded, **options)
    found = [(n, lambda v=v: v) for n, v in zip(("Y", *MOVING), outputs, strict=True)]
    if recorded:
        gradients = once(
            lambda: model.gradients(
                steps, case.cotangent, *arguments, recorded=True, **options
            )
        )
        names = ("dX", "dgamma", "dbeta")
        found += [(n, lambda i=i: gradients()[i]) for i, n in enumerate(names)]
    return found


def _backward_cases(framework):
    found = []
    for name, shape in SHAPES.items():
        X, dY, vectors = inputs(shape, framework)
        arguments = {"dY": dY, "X": X, "gamma": vectors["gamma"]}
        outputs = ("dX", "dgamma", "dbeta")
        found.append(Case(name, arguments, {"eps": EPS}, outputs))
    return found


def _backward_expected(case, framework, steps):
    options = case.options | {"channel_axis": CHANNEL_AXES[framework]}
    outputs = model.backward(steps, *case.arguments.values(), **options)
    found = dict(zip(case.outputs, outputs, strict=True))
    found["dX"] = model.projected(found["dX"])
    return [(n, lambda v=v: v) for n, v in found.items()]


def whole_gradient(task: str, case: Case, framework: str) -> np.ndarray:
    """dX in full, of the right answer: to be shown."""
    arguments, axis = case.arguments, CHANNEL_AXES[framework]
    if task == "batch_norm_backward":
        dY, X, gamma = arguments.values()
        return model.backward(model.RIGHT, dY, X, gamma, case.options["eps"], axis)[0]
    dY = np.asarray(case.cotangent)
    if task in SCRIPTS:
        X = arguments["first"]
        gamma = np.ones(X.shape[axis])
        return model.backward(model.RIGHT, dY, X, gamma, spec.EPS, axis)[0]
    X, gamma, eps = arguments["X"], arguments["gamma"], case.options["eps"]
    if case.options["training"]:
        return model.backward(model.RIGHT, dY, X, gamma, eps, axis)[0]
    gamma, var = model.like(X, axis, gamma, arguments["moving_var"])
    return gamma / np.sqrt(var + eps) * dY


def _half_cases(framework):
    X, _, vectors = inputs((6, 2), framework)
    X = (300 * (X - X.mean(0)) / X.std(0)).astype(np.float16)
    names = ("gamma", "beta", "moving_mean", "moving_var")
    arguments = {"X": X} | {n: vectors[n] for n in names}
    options = {"training": True, "eps": EPS, "momentum": MOMENTUM}
    outputs = ("Y", *MOVING)
    return [Case("float16, std 300", arguments, options, outputs, tolerance=1e-2)]


def _half_expected(case, framework, steps):
    if steps.overflows:

        def infinite(X, mean, axes):
            return np.full_like(mean, np.inf)

        steps = dataclasses.replace(steps, var=infinite)
    X, *rest = case.arguments.values()
    case = dataclasses.replace(
        case, arguments=dict(zip(case.arguments, [X.astype(float), *rest], strict=True))
    )
    return _batch_norm_expected(case, framework, steps)


def _lenet_cases(framework):
    if framework == "numpy":
        return []  # it has no layers to build one of
    return [Case("LeNet", {}, outputs=("number of parameters", "shape of the output"))]


def _lenet_expected(case, framework, steps):
    found = [steps.lenet_parameters], [2, lenet.CLASSES]
    return [
        (n, lambda v=v: np.array(v)) for n, v in zip(case.outputs, found, strict=True)
    ]


def _fit_cases(framework):
    if framework != "tensorflow":
        return []  # where a network can miss `training`
    X = inputs((5, 2), framework)[0]
    y = np.array([0, 1, 0, 1, 1])
    return [Case("three steps", {"X": X, "y": y}, {"steps": 3}, MOVING)]


def _fit_expected(case, framework, steps):
    X, moving = case.arguments["X"], [np.zeros(2), np.ones(2)]
    options = {"training": True, "eps": spec.EPS, "momentum": spec.MOMENTUM}
    for _ in range(case.options["steps"]):
        start = X, np.ones(2), np.zeros(2), *moving
        _, *moving = model.forward(steps, *start, channel_axis=-1, **options)
    return [(n, lambda v=v: v) for n, v in zip(MOVING, moving, strict=True)]


# Functions first, in the order in which they are written, then what is built on them.
CASES: dict[str, Callable[[str], list[Case]]] = {
    "batch_stats": _batch_stats_cases,
    "normalize": _normalize_cases,
    "update_moving": _update_moving_cases,
    "batch_norm": _batch_norm_cases,
    "batch_norm_backward": _backward_cases,
    "batch_norm_half": _half_cases,
    "BatchNorm": layer_script.cases,
    "builtin_batch_norm": layer_script.lenient_cases,
    "LeNet": _lenet_cases,
    "fit": _fit_cases,
}
EXPECTED: dict[str, Callable[[Case, str, model.Steps], Iterable[Output]]] = {
    "batch_stats": _batch_stats_expected,
    "normalize": _normalize_expected,
    "update_moving": _update_moving_expected,
    "batch_norm": _batch_norm_expected,
    "batch_norm_backward": _backward_expected,
    "batch_norm_half": _half_expected,
    "BatchNorm": layer_script.expected,
    "builtin_batch_norm": layer_script.expected,
    "LeNet": _lenet_expected,
    "fit": _fit_expected,
}
SCRIPTS = ("BatchNorm", "builtin_batch_norm")
WITHOUT_ARGUMENTS = (*SCRIPTS, "LeNet", "fit")
