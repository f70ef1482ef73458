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


class Call(NamedTuple):
    """One call of a layer."""

    path: str
    layer: Block
    inputs: tuple[Any, ...]
    output: Any


def plan_of(model: Block, X: Any) -> dict[str, str]:
    """{path of a batch norm: path of the linear layer directly before it}."""
    for path, layer in layers_of(model).items():
        if isinstance(layer, LayerNorm):
            raise refusal(path, "layer norm takes its statistics of each example")
    traced = copying.exact(model, X)
    calls = calls_of(traced, X)
    return {k: linear_before(k, v, calls) for k, v in norms_of(traced).items()}


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
    made = next((call for call in calls if call.output is X), None)
    if made is None or not isinstance(made.layer, (nn.Dense, _Conv)):
        found = "none does" if made is None else f"{made.path} does"
        raise refusal(
            path, f"a convolution or dense layer must come directly before it; {found}"
        )
    check_linear(path, norm, made, calls)
    check_axis(path, norm, made.layer, X)
    return made.path


def check_linear(path: str, norm: Norm, made: Call, calls: Sequence[Call]) -> None:
    """Raise ValueError unless nothing but the batch norm needs what was made."""
    times = sum(call.layer is made.layer for call in calls)
    if times > 1:
        raise refusal(path, f"{made.path} must be called once; it is {times} times")
    for call in calls:
        reads = any(v is made.output for v in call.inputs)
        if reads and norm not in layers_of(call.layer).values():
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
