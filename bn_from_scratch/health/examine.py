"""Look at every batch norm of a model or of a file, and on a batch if there is one."""

import dataclasses
import functools
import os
from typing import Any

import numpy as np

from bn_from_scratch import backends, spec
from bn_from_scratch.health.report import Health, Row
from bn_from_scratch.health.symptoms import SYMPTOMS, UNKNOWN
from bn_from_scratch.surgery import known
from bn_from_scratch.surgery.description import Description

LARGE_EPS = 1e-3  # the largest that is usual, where none is said
MOVE_WHEN_FROZEN = ("torch", "mxnet")  # requires_grad, grad_req: of gamma and beta only


@dataclasses.dataclass(frozen=True)
class Examined:
    """A batch norm, its framework, the inputs it got in a batch, and what came of it.

    output_gap: how far the model's output moves if this layer alone is in training.

    >>> state = {"moving_mean": np.zeros(2), "moving_var": np.ones(2)}
    >>> norm = Description("bn1", "BatchNorm", False, 2, 4, {"eps": 3.0}, state)
    >>> Examined(norm, "torch").factor.tolist()
    [0.5, 0.5]
    """

    description: Description
    framework: str
    inputs: list[np.ndarray] = dataclasses.field(default_factory=list)
    output_gap: float | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.description, name)

    @property
    def eps(self) -> float | None:
        return self.settings["eps"]

    @property
    def moves_when_frozen(self) -> bool:
        return self.framework in MOVE_WHEN_FROZEN

    @property
    def has_statistics(self) -> bool:
        return {"moving_mean", "moving_var"} <= self.state.keys()

    @property
    def mean(self) -> np.ndarray:
        return self.state["moving_mean"].astype(np.float64)

    @property
    def var(self) -> np.ndarray:
        return self.state["moving_var"].astype(np.float64)

    @property
    def factor(self) -> np.ndarray:
        """What prediction multiplies each channel with, at least.  [C]"""
        gamma = self.state.get("gamma", np.ones_like(self.var))
        beta, eps = np.zeros_like(self.var), self.settings["eps"] or LARGE_EPS
        return spec.prediction(self.mean, self.var, gamma, beta, eps)[0]

    @property
    def n(self) -> int:
        """Values per channel in a call with the batch."""
        axis = self.settings["axis"]
        return min(spec.values_per_channel(X.shape, axis) for X in self.inputs)

    @functools.cached_property
    def gap(self) -> float | None:
        """How far apart training and prediction put X_hat, root mean square."""
        if not (self.inputs and self.has_statistics):
            return None
        axis, eps = self.settings["axis"], self.settings["eps"]
        gaps, neutral = [], (1 + 0 * self.var, 0 * self.mean)
        for X in self.inputs:
            batch = spec.batch_stats(X, axis)
            pair = batch, (self.mean, self.var)
            a, b = (spec.normalize(X, *s, *neutral, eps, axis) for s in pair)
            gaps.append(np.sqrt(np.square(a - b).mean()))
        return float(max(gaps))


def health(
    model: Any, batch: Any = None, variables: Any = None, **stated: Any
) -> Health:
    """The Health of a model's batch norms, or of those in a file.

    model: a torch.nn.Module, a functional or sequential keras.Model, a Flax module
    (with its `variables`, and a batch to trace it on) or a gluon.Block; or the path of
    a file that `bn port` reads.  batch: inputs of the model, by which too few values
    and a gap between training and prediction are seen.  stated: what a file may not say
    of itself: eps, momentum, from_, absent, as of `port`.
    Raises ValueError for a model without batch norms, or with one that does more than
    its class says (a subclass with a forward of its own); TypeError for no model.
    """
    if isinstance(model, (str, os.PathLike)):
        from bn_from_scratch.health import of_file

        found = of_file.described(model, **stated)
        rows = [row(Examined(d, found.framework)) for d in found.layers]
        rows += [_unknown(*other) for other in found.unknown.items()]
        return Health(os.fspath(model), rows, found.notes)
    return Health(type(model).__name__, _of_model(model, batch, variables))


def row(layer: Examined) -> Row:
    """What is seen of one layer."""
    found = {s: s.evidence(layer) for s in SYMPTOMS}
    found = [(s, text) for s, text in found.items() if text]
    n = layer.n if layer.inputs else None
    return Row(layer.description, n, layer.gap, layer.output_gap, found)


def _of_model(model, batch, variables):
    """A row for every batch norm of a model in memory."""
    name = backends.framework_of(model)
    bn = backends.load(name)
    beside = {"variables": variables} if name == "jax" else {}
    traced = {"X": batch} | beside if beside else {}
    described, inputs, shares = bn.batch_norms(model, **traced), {}, {}
    others = backends.part(name, "models.surgery").others_of(model, **traced)
    known.check_any(described, others)
    known.check_known(described, "examined")
    if batch is not None:
        module = backends.part(name, "models.reestimation")
        run = functools.partial(module.run_in_training, model, batch, **beside)
        inputs, _ = run()
        shares = _output_gaps(run, inputs)
    layers = (
        Examined(d, name, inputs.get(path, []), shares.get(path))
        for path, d in described.items()
    )
    return [*map(row, layers), *(_unknown(*other) for other in others.items())]


def _unknown(path, kind):
    """The row of a layer that keeps such statistics, but is of no known kind."""
    description = Description(path or kind, kind, False, None, None, {}, {})
    return Row(description, None, None, None, [(UNKNOWN, f"it is a {kind}")])


def _output_gaps(run, paths):
    """{path: how far the model's output moves if that batch norm alone is in training}.

    Root mean square, in standard deviations of the prediction.
    """
    _, prediction = run(paths=[])
    prediction, found = _flat(prediction), {}
    for path in paths:
        moved = _flat(run(paths=[path])[1]) - prediction
        found[path] = float(np.sqrt(np.square(moved).mean()) / (prediction.std() or 1))
    return found


def _flat(outputs):
    """All values of one array or of a dict of arrays."""
    if isinstance(outputs, dict):
        return np.concatenate([_flat(v) for v in outputs.values()])
    return np.asarray(outputs, np.float64).ravel()
