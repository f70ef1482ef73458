"""The known symptoms, as data: what each looks at, and what to do about it.

To add one, add an entry: a name, a function of an `Examined` layer that gives its
evidence in words, or nothing where all is well, and advice.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

FEW = 32  # values per channel: below, a batch's variance is off by a quarter and more
NEAR_EPS = 10  # times eps
SMALL_EPS = 1e-5  # the smallest that is usual, where none is said
DEAD = 1e-3  # gamma
EXPLODING = 100  # times the input
GAP = 0.3  # standard deviations, root mean square


@dataclasses.dataclass(frozen=True)
class Symptom:
    """One way for a batch norm to be unwell.

    >>> few = Symptom("few", lambda layer: layer.n < 2 and f"{layer.n}", "Take more.")
    >>> few.name
    'few'
    """

    name: str
    evidence: Callable[[Any], Any]  # of an `Examined` -> words, or what is false
    advice: str


def _not_numbers(layer):
    names = [k for k, v in layer.state.items() if not np.isfinite(v).all()]
    return names and f"{', '.join(names)} not finite"


def _no_statistics(layer):
    if layer.settings["statistics"] == "batch":
        return "it predicts by the statistics of the batch"


def _missing(layer):
    moving = layer.settings["statistics"] == "moving"
    if layer.state and moving and not layer.has_statistics:
        lacking = {"moving_mean": "mean", "moving_var": "variance"}
        lacking = [word for name, word in lacking.items() if name not in layer.state]
        return (
            f"there is {' and '.join(layer.state)}, but no moving "
            f"{' and '.join(lacking)}"
        )


def _never_moved(layer):
    if layer.has_statistics and not layer.mean.any() and (layer.var == 1).all():
        return "every moving mean is 0 and every variance 1"


def _near_eps(layer):
    if layer.has_statistics:
        eps = layer.eps or SMALL_EPS
        said = f"eps = {eps:g}" if layer.eps else f"eps is not said; if it is {eps:g}"
        count = np.sum(layer.var < NEAR_EPS * eps)
        return count and (
            f"{_of(count, layer.var)} with a variance below {NEAR_EPS} eps "
            f"({said}, smallest variance {layer.var.min():.1e})"
        )


def _dead(layer):
    if "gamma" in layer.state:
        gamma = np.abs(layer.state["gamma"])
        count = np.sum(gamma < DEAD)
        return count and f"{_of(count, gamma)} with |gamma| below {DEAD:g}"


def _exploding(layer):
    if layer.has_statistics:
        factor = np.abs(layer.factor)
        count = np.sum(factor > EXPLODING)
        return count and (
            f"{_of(count, factor)} multiplied by more than {EXPLODING} in prediction "
            f"(at most {factor.max():.3g})"
        )


def _momentum(layer):
    momentum = layer.settings["momentum"]
    if momentum == 0:
        return "the new batch has weight 0"
    if momentum is not None and momentum > 0.5:
        return f"the new batch has weight {momentum:g}"


def _eps(layer):
    if layer.eps is not None and not 1e-6 <= layer.eps <= 1e-2:
        return f"eps = {layer.eps:g}"


def _frozen_but_moving(layer):
    fixed = layer.trainable and not any(layer.trainable.values())
    if layer.moves_when_frozen and fixed and layer.settings["frozen"] is None:
        return "gamma and beta are fixed, the statistics are not"


def _few_values(layer):
    if layer.inputs and layer.n < FEW:
        return (
            f"{layer.n} per channel: a batch's variance is off by "
            f"{np.sqrt(2 / max(layer.n - 1, 1)):.0%} or so"
        )


def _gap(layer):
    gap = layer.gap
    if gap is not None and gap > GAP:
        return f"X_hat differs by {gap:.2g} standard deviations"


def _of(count, vector):
    return f"{count} of {vector.size} channels"


UNKNOWN = Symptom(
    "not looked at",
    lambda layer: None,
    "It keeps moving statistics, but what it does with them is not known: it is no "
    "batch norm of its framework, and none of ours.",
)
SYMPTOMS = [
    Symptom(
        "not numbers",
        _not_numbers,
        "The training diverged, or a batch was empty: go back to an older checkpoint.",
    ),
    Symptom(
        "no statistics",
        _no_statistics,
        "A prediction depends on what else is in the batch: keep moving averages.",
    ),
    Symptom(
        "statistics missing",
        _missing,
        "Loaded, the layer predicts with mean 0 and variance 1: they must be state that"
        " is saved with the parameters. (A layer norm has none, and needs none.)",
    ),
    Symptom(
        "statistics never moved",
        _never_moved,
        "They are as they began: the model never ran in training mode (in Keras: "
        "training=True), or a checkpoint without them was loaded.",
    ),
    Symptom(
        "variance near eps",
        _near_eps,
        "There eps decides the output, and a port with another eps another one: look "
        "for constant inputs, or weights that decayed to 0.",
    ),
    Symptom(
        "dead channels",
        _dead,
        "They answer beta whatever comes in: prune them, or exempt gamma from decay.",
    ),
    Symptom(
        "exploding channels",
        _exploding,
        "A small change of the input is a large one of the output: the variance was "
        "taken of inputs that hardly varied.",
    ),
    Symptom(
        "unusual momentum",
        _momentum,
        "PyTorch's momentum is the weight of the new batch (0.1), that of Keras, Flax "
        "and MXNet the weight of the old value (0.99, 0.9): was it copied over?",
    ),
    Symptom(
        "unusual eps",
        _eps,
        "Frameworks use 1e-5 (Keras 1e-3): in float16 less than 6e-8 is 0.",
    ),
    Symptom(
        "frozen but moving",
        _frozen_but_moving,
        "Fixing the parameters does not stop the statistics here: put the layer into "
        "evaluation mode after every .train(), or use frozen='all'.",
    ),
    Symptom(
        "too few values",
        _few_values,
        "Use a larger batch, statistics of all replicas (SyncBatchNorm), or a norm "
        "that needs no batch (LayerNorm).",
    ),
    Symptom(
        "training and prediction apart",
        _gap,
        "The moving averages are not the statistics of such data: re-estimate them "
        "(bn.reestimate), or train longer with fixed weights.",
    ),
]
