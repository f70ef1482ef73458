"""Find the linear layer of a Keras model that each batch norm folds into."""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import keras
from keras import layers as nn

from bn_from_scratch import spec
from bn_from_scratch.backends.tensorflow.layer import BatchNorm
from bn_from_scratch.backends.tensorflow.models import copying
from bn_from_scratch.backends.tensorflow.models.surgery import Native, norms_of
from bn_from_scratch.backends.tensorflow.variants import LayerNorm

# The layers that a batch norm folds into: their weight, and its axis of the output
# channels; a depthwise one has two, the input channel and its multiple.
LINEAR: dict[type[keras.Layer], tuple[str, Any]] = {
    nn.Dense: ("kernel", -1),
    nn.SeparableConv1D: ("pointwise_kernel", -1),
    nn.SeparableConv2D: ("pointwise_kernel", -1),
    nn.DepthwiseConv1D: ("kernel", (-2, -1)),
    nn.DepthwiseConv2D: ("kernel", (-2, -1)),
}
LINEAR |= dict.fromkeys((nn.Conv1D, nn.Conv2D, nn.Conv3D), ("kernel", -1))
TRANSPOSED: tuple[type[keras.Layer], ...] = (
    nn.Conv1DTranspose,
    nn.Conv2DTranspose,
    nn.Conv3DTranspose,
)
LINEAR |= dict.fromkeys(TRANSPOSED, ("kernel", -2))
# They answer with what they read, in prediction.
PASSING: tuple[type[keras.Layer], ...] = (nn.Identity, nn.ActivityRegularization)
PASSING += nn.Dropout, nn.SpatialDropout1D, nn.SpatialDropout2D, nn.SpatialDropout3D
PASSING += nn.AlphaDropout, nn.GaussianDropout, nn.GaussianNoise
LAYER_NORMS: tuple[type[keras.Layer], ...] = (nn.LayerNormalization, LayerNorm)


Pair = tuple[keras.Layer, keras.Layer]  # a batch norm, and its linear layer


def plan_of(model: keras.Model) -> tuple[dict[str, Pair], dict[str, ValueError]]:
    """{path of a batch norm: pair}, and {path: reason} of those without a pair."""
    graphs = graphs_of(model)
    calls = [node for graph in graphs for node in calls_in(graph)]
    readers = defaultdict(list)
    for node in calls:
        for tensor in node.input_tensors:
            readers[id(tensor)].append(node.operation.name)
    for graph in graphs:
        for tensor in keras.tree.flatten(graph.output):
            readers[id(tensor)].append("the output of the model")
    plan: dict[str, Pair] = {}
    refused: dict[str, ValueError] = {}
    for path, norm in norms_of(model, (Native, BatchNorm, *LAYER_NORMS)).items():
        if not any(norm is other for other, _ in plan.values()):  # shared by two models
            try:
                plan[path] = norm, linear_before(norm, calls, readers)
            except ValueError as error:
                refused[path] = refusal(path, error)
    return plan, refused


def refusal(path: str, reason: object) -> ValueError:
    """The error to raise for a batch norm that cannot be folded."""
    return ValueError(f"{path} cannot be folded: {reason}")


def graphs_of(model: keras.Model) -> list[Any]:
    """The functional graphs of a model: its own, and those of the models in it."""
    models = filter(copying.is_graph, [model, *copying.layers_of(model).values()])
    graphs = {id(m): getattr(m, "_functional", m) for m in models}
    if None in graphs.values():
        raise ValueError("the model must be built; it has not seen an input yet")
    return list(graphs.values())


def calls_in(graph: Any) -> list[Any]:
    """The calls of layers that a functional graph consists of."""
    return [node for depth in graph._nodes_by_depth.values() for node in depth]


def linear_before(
    norm: Any, calls: list[Any], readers: Mapping[int, list[str]]
) -> keras.Layer:
    """The linear layer that takes a batch norm in; ValueError with the reason if none.

    calls: all calls of layers in the model.  readers: who reads a tensor, by its id.
    """
    if isinstance(norm, LAYER_NORMS):
        raise ValueError(
            "it must predict by moving statistics; "
            "a layer norm predicts by those of each example"
        )
    [call] = the_call(norm, calls)
    if predicts_by_batch(norm, call):
        raise ValueError(
            "it must predict by moving statistics; it predicts by those of the batch"
        )
    tensor, before = call.input_tensors[0], norm
    linear = tensor._keras_history.operation
    while type(linear) in PASSING:
        [passed] = the_call(linear, calls, f"{linear.name} must")
        if passed.arguments.kwargs.get("training"):
            break
        check_reader(before, linear, readers[id(tensor)])
        tensor, before = passed.input_tensors[0], linear
        linear = tensor._keras_history.operation
    if type(linear) not in LINEAR:
        raise ValueError(
            "it must directly follow a convolution or dense layer; "
            f"it follows {linear.name} ({type(linear).__name__})"
        )
    if linear.activation is not keras.activations.linear:
        activation = keras.activations.serialize(linear.activation)
        raise ValueError(
            f"{linear.name} must be linear; its activation is {activation}"
        )
    the_call(linear, calls, f"{linear.name} must")
    check_reader(before, linear, readers[id(tensor)])
    first = getattr(linear, "data_format", "channels_last") == "channels_first"
    channels = 1 if first else tensor.ndim - 1
    if spec.kept_axes(tensor.ndim, norm.axis) != (channels,):
        raise ValueError(
            f"it must normalize the channels of {linear.name}, axis {channels}; "
            f"its axis is {norm.axis}"
        )
    return linear


def check_reader(reader: Any, read: Any, readers: list[str]) -> None:
    """Raise ValueError unless nothing but this layer reads what another answers."""
    if len(readers) > 1:
        other = next(name for name in readers if name != reader.name)
        raise ValueError(f"it alone must read {read.name}; so does {other}")


def the_call(
    layer: keras.Layer, calls: list[Any], subject: str = "it must"
) -> list[Any]:
    """[the one call] of a layer; ValueError if there are more, or none."""
    found = [node for node in calls if node.operation is layer]
    if not found:
        raise ValueError("it must lie in a functional or sequential model")
    if len(found) > 1:
        raise ValueError(f"{subject} be used once; it is used {len(found)} times")
    return found


def predicts_by_batch(norm: keras.Layer, call: Any) -> bool:
    """Does this call normalize by the batch, whatever the mode of the model?"""
    if isinstance(norm, BatchNorm) and norm.predicts_by_batch():
        return True
    training = call.arguments.kwargs.get("training", False)
    return bool(training and norm.trainable and getattr(norm, "frozen", None) != "all")
