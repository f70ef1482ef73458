"""Find the linear layer of a Flax module that each batch norm folds into."""

import dataclasses
from collections import Counter
from collections.abc import Callable
from typing import Any

from flax import linen as nn
from flax.typing import VariableDict

from bn_from_scratch import spec
from bn_from_scratch.backends.jax.models import norms, rewiring
from bn_from_scratch.backends.jax.variants import LayerNorm
from bn_from_scratch.spec import Axis

LINEAR = (nn.Dense, nn.Conv, nn.ConvTranspose)
LAYER_NORMS = (nn.LayerNorm, LayerNorm)


@dataclasses.dataclass
class Call:
    """One call of a layer, as a trace saw it."""

    path: tuple[str, ...]
    layer: Any  # of linen or of nnx
    X: Any
    Y: Any
    training: bool = False

    @property
    def name(self) -> str:
        return ".".join(self.path)


Pair = tuple[Call, Call]  # a batch norm, and the linear layer before it


Plan = tuple[dict[str, Pair], dict[str, ValueError]]


def find_pairs(model: nn.Module, X: Any, variables: VariableDict) -> Plan:
    """{path of a batch norm: pair}, as they were called, and {path: reason} of those
    without a pair."""
    calls = []

    def note(layer, args, kwargs, Y):
        unbound, training = layer.clone(parent=None), False
        X = args[0] if args else None
        if isinstance(layer, norms.NORMS):
            X, training, _ = norms.call_of(layer, args, kwargs)
        calls.append(Call(layer.path, unbound, X, Y, training))

    rewiring.trace(model, variables, X, note)
    kinds = (*norms.NORMS, *LAYER_NORMS)
    found = [call for call in calls if isinstance(call.layer, kinds)]
    return plan_of(found, lambda norm: linear_before(norm, calls, variables))


def plan_of(found: list[Call], linear_before: Callable[[Call], Call]) -> Plan:
    """The batch norms with the layers that `linear_before` gives, and the others."""
    plan: dict[str, Pair] = {}
    refused: dict[str, ValueError] = {}
    for norm in found:
        try:
            plan[norm.name] = norm, linear_before(norm)
        except ValueError as error:
            refused[norm.name] = error
    return plan, refused


def linear_before(norm: Call, calls: list[Call], variables: VariableDict) -> Call:
    """The call of the linear layer that takes this batch norm in."""
    try:
        check_norm(norm, calls, variables)
        return check_linear(norm, calls)
    except ValueError as error:
        raise ValueError(f"{norm.name} cannot be folded: {error}") from None


def check_norm(norm: Call, calls: list[Call], variables: VariableDict) -> None:
    """Raise ValueError unless a batch norm predicts in one way, for one reader."""
    if isinstance(norm.layer, LAYER_NORMS):
        raise ValueError(
            "it must predict by moving statistics; "
            "a layer norm predicts by those of each example"
        )
    check_once(norm, calls, "it must")
    ours = not norms.is_native(norm.layer)
    fixed = ours and norm.layer.frozen == "all"
    if (norm.training or (ours and norm.layer.predicts_by_batch())) and not fixed:
        raise ValueError(
            "it must predict by moving statistics; it predicts by those of the batch"
        )
    state = norms.state_of(norms.variables_of(variables, norm.path))
    check_axis(norm.X, norm.layer.axis, state["moving_mean"].shape)


def check_axis(X: Any, axis: Axis, shape: tuple[int, ...]) -> None:
    """Raise ValueError unless a batch norm's channels are those of a linear layer."""
    if spec.kept_axes(X.ndim, axis) != (X.ndim - 1,) or len(shape) != 1:
        raise ValueError(
            f"it must normalize the last axis of X, with statistics [C]; its axis is "
            f"{axis} and its statistics have shape {shape}"
        )


def check_linear(norm: Call, calls: list[Call]) -> Call:
    """The call of a linear layer whose output a batch norm reads, and it alone."""
    linear = next((c for c in calls if c.Y is norm.X and type(c.layer) in LINEAR), None)
    if linear is None:
        raise ValueError(
            "it must directly follow a convolution or dense layer; "
            "what it reads comes from elsewhere"
        )
    check_once(linear, calls, f"{linear.name} must")
    for other in calls:
        is_norm = isinstance(other.layer, norms.NORMS)
        if other.X is linear.Y and other.path != norm.path and is_norm:
            raise ValueError(f"it alone must read {linear.name}; so does {other.name}")
    return linear


def check_once(call: Call, calls: list[Call], subject: str) -> None:
    times = Counter(other.path for other in calls)[call.path]
    if times > 1:
        raise ValueError(f"{subject} be used once; it is used {times} times")


def refusal(pair: Pair, error: ValueError) -> ValueError:
    """The error for a pair that keeps the output no longer, once folded.

    A trace knows who gave what a batch norm reads, not who else reads it.
    """
    norm, linear = pair
    return ValueError(
        f"{norm.name} cannot be folded: it alone must read {linear.name}; {error}"
    )
