"""Find the linear layer of a PyTorch model that each batch norm folds into."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from bn_from_scratch import spec
from bn_from_scratch.backends.torch.batch_norm import CHANNEL_AXIS
from bn_from_scratch.backends.torch.models import copying
from bn_from_scratch.backends.torch.models.surgery import Native, Norm, norms_of
from bn_from_scratch.backends.torch.variants import LayerNorm
from bn_from_scratch.surgery import known

LINEAR_HOMES = nn.Linear.__module__, _ConvNd.__module__


class Call(NamedTuple):
    """One call of a layer.

    version: how often its output has been changed in place when the call is over.
    """

    path: str
    layer: nn.Module
    inputs: tuple[Any, ...]
    output: Any
    version: int | None


Pair = tuple[str, str]  # the paths of a batch norm and of the linear layer before it


def plan_of(model: nn.Module, X: Any) -> tuple[dict[str, Pair], dict[str, ValueError]]:
    """{path of a batch norm: pair}, and {path: reason} of those without a pair."""
    plan: dict[str, Pair] = {}
    refused: dict[str, ValueError] = {}
    for path, layer in model.named_modules():
        if isinstance(layer, LayerNorm):
            reason = "layer norm takes its statistics of each example"
            refused[path] = refusal(path, reason)
    traced = copying.copied(model)
    calls = calls_of(traced, X)
    for path, layer in norms_of(traced).items():
        try:
            plan.setdefault(path, (path, linear_before(path, layer, calls)))
        except ValueError as error:
            refused.setdefault(path, error)
    return {k: v for k, v in plan.items() if k not in refused}, refused


def calls_of(model: nn.Module, X: Any) -> list[Call]:
    """Every call of a layer in prediction on X, inner layers before outer ones."""
    calls: list[Call] = []
    for path, layer in model.named_modules():

        def record(
            layer: nn.Module, inputs: Any, named: Any, output: Any, path: str = path
        ) -> None:
            version = getattr(output, "_version", None)
            calls.append(Call(path, layer, (*inputs, *named.values()), output, version))

        layer.register_forward_hook(record, with_kwargs=True)
    copying.run(model, X)
    return calls


def linear_before(path: str, norm: Norm, calls: Sequence[Call]) -> str:
    """The path of the layer that a batch norm folds into; ValueError if there is none.

    What no layer reports, such as a sum that reads the same output, the proof finds.
    """
    path = path or type(norm).__name__
    if predicts_by_batch(norm):
        raise refusal(path, "it predicts by the statistics of the batch")
    own = [call for call in calls if call.layer is norm]
    if len(own) != 1:
        raise refusal(path, f"X must pass through it once; it does {len(own)} times")
    X = own[0].inputs[0]
    made = next((call for call in calls if call.output is X), None)
    if made is None or not isinstance(made.layer, (nn.Linear, _ConvNd)):
        found = "none does" if made is None else f"{made.path} does"
        raise refusal(
            path, f"a convolution or dense layer must come directly before it; {found}"
        )
    check_linear(path, norm, made, calls)
    check_axis(path, norm, made.layer, X)
    return made.path


def predicts_by_batch(norm: Norm) -> bool:
    """Does it predict by the statistics of the batch?"""
    if isinstance(norm, Native):
        return norm.running_mean is None
    return norm.predicts_by_batch()


def check_linear(path: str, norm: Norm, made: Call, calls: Sequence[Call]) -> None:
    """Raise ValueError unless nothing but the batch norm needs what was made."""
    times = sum(call.layer is made.layer for call in calls)
    if times > 1:
        raise refusal(path, f"{made.path} must be called once; it is {times} times")
    for call in calls:
        reads = any(v is made.output for v in call.inputs) and not passes(call, made)
        if reads and norm not in call.layer.modules():
            raise refusal(path, f"{call.path} reads the output of {made.path} too")
    if "weight" not in made.layer._parameters:
        raise refusal(
            path, f"the weight of {made.path} must be a parameter; it is computed"
        )
    if own := known.peculiarity(made.layer, LINEAR_HOMES):
        raise refusal(path, f"{made.path} must do nothing else; {own}")


def passes(call: Call, made: Call) -> bool:
    """Does it answer with what it reads, unchanged, as a dropout does in prediction?"""
    return call.output is made.output and call.version == made.version


def check_axis(path: str, norm: Norm, linear: nn.Module, X: Tensor) -> None:
    """Raise ValueError unless the batch norm's channels are those of the layer."""
    channels = X.ndim - 1 - len(getattr(linear, "kernel_size", ()))
    axis = CHANNEL_AXIS if isinstance(norm, Native) else norm.axis
    if spec.kept_axes(X.ndim, axis) != (channels,):
        raise refusal(
            path, f"its channels must be on axis {channels} of its input; axis={axis}"
        )


def refusal(path: str, reason: object) -> ValueError:
    """The error to raise for a batch norm that cannot be folded."""
    return ValueError(f"{path} cannot be folded: {reason}")
