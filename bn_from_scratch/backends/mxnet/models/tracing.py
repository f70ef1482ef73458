"""Find the linear layer of a Gluon model that each batch norm folds into."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from mxnet.gluon import Block, nn
from mxnet.gluon.nn.conv_layers import _Conv
from mxnet.numpy import ndarray

from bn_from_scratch import spec
from bn_from_scratch.backends.mxnet.blocks import layers_of
from bn_from_scratch.backends.mxnet.models import copying
from bn_from_scratch.backends.mxnet.models.surgery import (
    Native,
    Norm,
    describe,
    norms_of,
)
from bn_from_scratch.backends.mxnet.variants import LayerNorm
from bn_from_scratch.surgery import known

LINEAR_HOMES = nn.Dense.__module__, _Conv.__module__


class Call(NamedTuple):
    """One call of a layer."""

    path: str
    layer: Block
    inputs: tuple[Any, ...]
    output: Any


Pair = tuple[str, str]  # the paths of a batch norm and of the linear layer before it
DROPOUTS = (nn.Dropout,)  # in prediction they answer with what they read


def plan_of(model: Block, X: Any) -> tuple[dict[str, Pair], dict[str, ValueError]]:
    """{path of a batch norm: pair}, and {path: reason} of those without a pair."""
    plan: dict[str, Pair] = {}
    refused: dict[str, ValueError] = {}
    for path, layer in layers_of(model).items():
        if isinstance(layer, LayerNorm):
            reason = "layer norm takes its statistics of each example"
            refused[path] = refusal(path, reason)
    traced = copying.plain(model, X)
    calls = calls_of(traced, X)
    for path, layer in norms_of(traced).items():
        try:
            plan.setdefault(path, (path, linear_before(path, layer, calls)))
        except ValueError as error:
            refused.setdefault(path, error)
    return {k: v for k, v in plan.items() if k not in refused}, refused


def calls_of(model: Block, X: Any) -> list[Call]:
    """Every call of a layer in prediction on X, inner layers before outer ones."""
    calls: list[Call] = []
    for path, layer in layers_of(model).items():

        def record(layer: Block, inputs: Any, output: Any, path: str = path) -> None:
            calls.append(Call(path, layer, inputs, output))

        layer.register_forward_hook(record)
    copying.run(model, X)
    return calls


def linear_before(path: str, norm: Norm, calls: Sequence[Call]) -> str:
    """The path of the layer that a batch norm folds into; ValueError if there is none.

    What no layer reports, such as a sum that reads the same output, the proof finds.
    """
    path = path or type(norm).__name__
    if not isinstance(norm, Native) and norm.predicts_by_batch():
        raise refusal(path, "it predicts by the statistics of the batch")
    own = [call for call in calls if call.layer is norm]
    if len(own) != 1:
        raise refusal(path, f"X must pass through it once; it does {len(own)} times")
    X = own[0].inputs[0]
    made, passed = source_of(X, calls)
    if made is None or not isinstance(made.layer, (nn.Dense, _Conv)):
        found = "none does" if made is None else f"{made.path} does"
        raise refusal(
            path, f"a convolution or dense layer must come directly before it; {found}"
        )
    check_own(path, made)
    check_linear(path, norm, made, calls, passed)
    check_axis(path, norm, made.layer, X)
    return made.path


def check_own(path: str, made: Call) -> None:
    """Raise ValueError if a linear layer does more than its class says."""
    if own := known.peculiarity(made.layer, LINEAR_HOMES):
        raise refusal(path, f"{made.path} must do nothing else; {own}")


def source_of(X: ndarray, calls: Sequence[Call]) -> tuple[Call | None, list[Call]]:
    """The call that made X, and those that only passed it on."""
    passed: list[Call] = []
    while True:
        made = next((call for call in calls if call.output is X), None)
        if made is None or not isinstance(made.layer, DROPOUTS):
            passed += [c for c in calls if c.inputs and c.output is c.inputs[0] is X]
            return made, passed
        passed.append(made)
        X = made.inputs[0]


def check_linear(
    path: str,
    norm: Norm,
    made: Call,
    calls: Sequence[Call],
    passed: Sequence[Call] = (),
) -> None:
    """Raise ValueError unless nothing but the batch norm needs what was made.

    passed: the calls on the way that answer with what they read.
    """
    outputs = [call.output for call in (made, *passed)]
    times = sum(call.layer is made.layer for call in calls)
    if times > 1:
        raise refusal(path, f"{made.path} must be called once; it is {times} times")
    for call in calls:
        reads = any(v is Y for v in call.inputs for Y in outputs)
        if reads and call not in passed and norm not in layers_of(call.layer).values():
            raise refusal(path, f"{call.path} reads the output of {made.path} too")


def check_axis(path: str, norm: Norm, linear: Block, X: ndarray) -> None:
    """Raise ValueError unless the batch norm's channels are those of the layer."""
    conv = getattr(linear, "_kwargs", None)
    channels = conv["layout"].find("C") if conv else X.ndim - 1
    axis = describe("", norm).settings["axis"]
    if spec.kept_axes(X.ndim, axis) != (channels,):
        raise refusal(
            path, f"its channels must be on axis {channels} of its input; axis={axis}"
        )


def refusal(path: str, reason: object) -> ValueError:
    """The error to raise for a batch norm that cannot be folded."""
    return ValueError(f"{path} cannot be folded: {reason}")
