"""Fold each batch norm of a Keras model into the linear layer before it."""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import layers as nn

from bn_from_scratch import spec
from bn_from_scratch.backends.tensorflow.layer import BatchNorm
from bn_from_scratch.backends.tensorflow.models import copying
from bn_from_scratch.backends.tensorflow.models.surgery import (
    Native,
    norms_of,
    state_of,
)
from bn_from_scratch.backends.tensorflow.variants import (
    LayerNorm,
    MeanOnlyBatchNorm,
    VarOnlyBatchNorm,
)
from bn_from_scratch.surgery import folding, proof

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
LAYER_NORMS: tuple[type[keras.Layer], ...] = (nn.LayerNormalization, LayerNorm)


def fold_batch_norm(model: keras.Model, X: Any) -> keras.Model:
    """A new model for prediction, in which each batch norm is part of the layer before.

    What stood for the batch norm is an Identity of its name.  The output on X is proven
    to stay (in float64); a batch norm that cannot be folded raises ValueError with the
    reason.
    """
    new = folded(model)
    models = model, folded(copying.exact(model))
    before, after = (copying.outputs(m, X, ["prediction"]) for m in models)
    proof.prove(before, after)
    return new


def folded(model: keras.Model) -> keras.Model:
    """A new model, each batch norm of which is an Identity."""
    norms = norms_of(model, (Native, BatchNorm, *LAYER_NORMS))
    if not norms:
        raise ValueError("the model must have a batch norm; it has none")
    plan = pairs(model, norms)
    taken = {id(linear): norm for norm, linear in plan}

    def clone(layer):
        if id(layer) in taken:
            return copying.cloned(layer, lambda config: config | {"use_bias": True})
        if any(layer is norm for norm, _ in plan):
            return nn.Identity(name=layer.name, dtype=layer.dtype_policy.name)
        return copying.cloned(layer)

    def write(old, new):
        if id(old) in taken:
            write_folded(old, taken[id(old)], new)
        elif not isinstance(new, nn.Identity):
            copying.write(old, new)

    return copying.rebuilt(model, clone, write)


def write_folded(linear: Any, norm: keras.Layer, new: keras.Layer) -> None:
    """Give the copy of a linear layer the weights that do the batch norm's work too."""
    name, axis = LINEAR[type(linear)]
    weight = getattr(linear, name).numpy()
    shape = weight.shape
    if axis == (-2, -1):
        weight, axis = weight.reshape(*shape[:-2], -1), -1
    bias = linear.bias.numpy() if linear.use_bias else None
    weight, bias = folding.fold(weight, bias, *operands(norm), axis)
    named = {v.name: v for v in linear.variables}
    for v in new.variables:
        if v.name == "bias":
            v.assign(bias)
        elif v.name == name:
            v.assign(weight.reshape(shape))
        else:
            v.assign(named[v.name])
    new.trainable = linear.trainable


def operands(
    norm: Any,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, float]:
    """mean, var, gamma, beta [C] and eps of a layer's prediction, as NumPy."""
    state = state_of(norm)
    mean, var = state["moving_mean"], state["moving_var"]
    if isinstance(norm, Native):
        one, zero, eps = np.ones(mean.shape), np.zeros(mean.shape), norm.epsilon
        four = mean, var, state.get("gamma", one), state.get("beta", zero)
    else:
        four, eps = norm.operands(mean, var, training=False), norm.eps
    mean, var, gamma, beta = map(np.asarray, four)
    if isinstance(norm, MeanOnlyBatchNorm):
        var, eps = np.ones_like(var), 0
    if isinstance(norm, VarOnlyBatchNorm):
        mean = np.zeros_like(mean)
    return mean, var, gamma, beta, eps


# --- Which layer takes which batch norm ---------------------------------------------


def pairs(
    model: keras.Model, norms: dict[str, keras.Layer]
) -> list[tuple[keras.Layer, keras.Layer]]:
    """[(batch norm, linear layer)]; ValueError for the first that cannot be folded."""
    graphs = graphs_of(model)
    calls = [node for graph in graphs for node in calls_in(graph)]
    readers = defaultdict(list)
    for node in calls:
        for tensor in node.input_tensors:
            readers[id(tensor)].append(node.operation.name)
    for graph in graphs:
        for tensor in keras.tree.flatten(graph.output):
            readers[id(tensor)].append("the output of the model")
    found = []
    for path, norm in norms.items():
        if not any(norm is other for other, _ in found):  # shared by two models
            try:
                found.append((norm, linear_before(norm, calls, readers)))
            except ValueError as error:
                raise ValueError(f"{path} cannot be folded: {error}") from None
    return found


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
    tensor = call.input_tensors[0]
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
    if len(readers[id(tensor)]) > 1:
        other = next(name for name in readers[id(tensor)] if name != norm.name)
        raise ValueError(f"it alone must read {linear.name}; so does {other}")
    first = getattr(linear, "data_format", "channels_last") == "channels_first"
    channels = 1 if first else tensor.ndim - 1
    if spec.kept_axes(tensor.ndim, norm.axis) != (channels,):
        raise ValueError(
            f"it must normalize the channels of {linear.name}, axis {channels}; "
            f"its axis is {norm.axis}"
        )
    return linear


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
