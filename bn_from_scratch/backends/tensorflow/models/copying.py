"""Copy a Keras model layer by layer, its weights with it; run what was copied."""

import contextlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from types import FunctionType
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras.src.saving.serialization_lib import SafeModeScope

from bn_from_scratch.backends.tensorflow.protocol import Norm
from bn_from_scratch.surgery import paths, proof, trees

Config = dict[str, Any]  # what a layer can be made from again
Clone = Callable[[keras.Layer], keras.Layer]
Write = Callable[[keras.Layer, keras.Layer], None]  # of the old one into the new one
Like = Callable[[Any], Any]  # a symbolic input -> another in its place

FLOATS = "float16", "bfloat16", "float32", "mixed_float16", "mixed_bfloat16"
EPS = {"float64": 2.0**-52, "float32": 2.0**-23, "float16": 2.0**-10}
EPS |= {"bfloat16": 2.0**-7}
# Of dtypes that do not fit.
ERRORS: tuple[type[Exception], ...] = (
    TypeError,
    ValueError,
    NotImplementedError,
    tf.errors.InvalidArgumentError,
)


def layers_of(
    model: Any, into: Callable[[keras.Layer], bool] = bool
) -> dict[str, keras.Layer]:
    """{path: layer} of every layer; one that contains others stands before them.

    into: whether those in a layer are wanted too.
    """
    return dict(walk(model, into))


def walk(
    model: Any, into: Callable[[keras.Layer], bool] = bool
) -> Iterator[tuple[str, keras.Layer]]:
    """(path, layer) of every layer, as `layers_of`; several may have one path."""
    for layer in model._flatten_layers(include_self=False, recursive=False):
        yield layer.name, layer
        if into(layer):
            inner = walk(layer, into)
            yield from ((f"{layer.name}.{path}", own) for path, own in inner)


def units_of(model: Any) -> dict[str, keras.Layer]:
    """{path: layer} of what graphs consist of: not of what lies in other layers."""
    return paths.unique(walk(model, is_graph))


def is_graph(layer: keras.Layer) -> bool:
    """Is it a functional or sequential model, which can be taken apart?"""
    return isinstance(layer, keras.Sequential) or hasattr(layer, "operations")


def cloned(
    layer: keras.Layer, change: Callable[[Config], Config] = dict
) -> keras.Layer:
    """A layer with the same config, or `change(config)`, without its weights.

    Functions are handed on as they are: one that is read from a config has lost the
    names that it uses, or is not found.
    """
    if "call" in vars(layer):
        raise ValueError(
            f"{layer.name} must be what its config says; this {type(layer).__name__} "
            "has a call of its own"
        )
    if type(layer).get_config in (Norm.get_config, keras.layers.Lambda.get_config):
        config = keras.layers.Layer.get_config(layer) | arguments_of(layer)
        return type(layer)(**change(config))
    with warnings.catch_warnings(action="ignore"):  # of the functions in it
        config = layer.get_config()
    own = {name: getattr(layer, name, None) for name in config}
    functions = {k: v for k, v in own.items() if isinstance(v, FunctionType)}
    return type(layer).from_config(change(config | functions))


def arguments_of(layer: keras.Layer) -> Config:
    """{name: value}: what a layer of ours or a Lambda was made with."""
    if isinstance(layer, Norm):
        return layer.arguments()
    own = {name: getattr(layer, name) for name in ("function", "mask", "arguments")}
    return own | {"output_shape": layer._output_shape}


def write(old: keras.Layer, new: keras.Layer) -> None:
    """Give a layer the variables of the one it is a copy of."""
    build_like(old, new)
    for layer, copy in zip(parts_of(old), parts_of(new), strict=False):
        copy.trainable = layer.trainable
    if len(old.variables) != len(new.variables):
        raise ValueError(
            f"{old.name} must have the variables that its config says; "
            f"it has {len(old.variables)}, and its copy {len(new.variables)}"
        )
    for v, copy in zip(old.variables, new.variables, strict=True):
        copy.assign(v)
        copy.trainable = v.trainable


def parts_of(layer: keras.Layer) -> list[keras.Layer]:
    """A layer, and then those that lie in it."""
    return [layer, *layer._flatten_layers(include_self=False)]


def input_like(tensor: Any, dtype: str | None = None) -> Any:
    """A new input of a model in the place of this one."""
    name = tensor._keras_history.operation.name
    return keras.Input(batch_shape=tensor.shape, dtype=dtype or tensor.dtype, name=name)


def build_like(old: keras.Layer, new: keras.Layer) -> None:
    """A sequential model without an input may hold layers that are built."""
    if old.built and not new.built:
        new.build_from_config(old.get_build_config())


def rebuilt(
    model: keras.Model,
    clone: Clone = cloned,
    write: Write = write,
    like: Like = input_like,
) -> keras.Model:
    """A copy of a model: inputs as `like(input)`, layers as `clone(layer)` each, filled
    by `write(layer, copy)`."""
    if not is_graph(model):
        raise ValueError(
            "the model must be functional or sequential, to be taken apart; "
            f"got {type(model).__name__}"
        )
    # Keras distrusts a lambda that comes from a file; this one is in memory.
    with SafeModeScope(safe_mode=False):
        copy = _structure(model, clone, like, {})
    copy.trainable = model.trainable
    layers = units_of(copy)
    for path, old in units_of(model).items():
        if is_graph(old):
            layers[path].trainable = old.trainable  # its layers' too, which follow
        elif not isinstance(old, keras.layers.InputLayer):
            write(old, layers[path])
    return copy


def _structure(
    model: Any, clone: Clone, like: Like, made: dict[int, keras.Layer]
) -> keras.Model:
    """A model of new layers.  made: {id: new layer}, what is shared is made once.

    `clone_model` can recurse too, but loses the names of the inputs on the way.
    """

    def clone_any(layer):
        if id(layer) not in made:
            graph = is_graph(layer)
            new = _structure(layer, clone, like, made) if graph else clone(layer)
            made[id(layer)] = new
        return made[id(layer)]

    if not isinstance(model, keras.Sequential):
        inputs = keras.tree.map_structure(like, model.input)
        return keras.models.clone_model(model, inputs, clone_any, _call)
    known = model.inputs if model._functional is not None else []  # it may be unbuilt
    layers = [*map(like, known), *map(clone_any, model.layers)]
    copy = keras.Sequential(layers, name=model.name)
    if model.compiled:
        copy.compile_from_config(model.get_compile_config())
    return copy


def _call(layer: keras.Layer, X: Any, *args: Any, **kwargs: Any) -> Any:
    if isinstance(layer, keras.layers.Identity):  # takes no mask, as a batch norm does
        return layer(X)
    return layer(X, *args, **kwargs)


def outputs(
    model: keras.Model, X: Any, modes: Sequence[str], in_float64: bool = True
) -> dict[str, dict[str, np.ndarray]]:
    """{mode: {place: array}}: what copies of a model answer."""
    X = as_inputs(X)
    answer = answer_in_float64 if in_float64 else answer_of_copy
    with proof.in_float64(in_float64, ERRORS):
        return {mode: arrays(answer(model, X, mode == "training")) for mode in modes}


def answer_in_float64(model: keras.Model, X: Any, training: bool) -> Any:
    """What a copy of a model answers in float64; TensorFlow mixes no dtypes."""
    with float64_by_default():
        return exact(model)(X, training=training)


def answer_of_copy(model: keras.Model, X: Any, training: bool) -> Any:
    """What a copy of a model answers in its own dtype."""
    return rebuilt(model)(X, training=training)


def as_inputs(X: Any) -> Any:
    """The inputs of a model: a tensor, or a tree of tensors."""
    return trees.mapped(keras.ops.convert_to_tensor, X)


def arrays(Y: Any) -> dict[str, np.ndarray]:
    """{place: array} of what a model answers."""
    return trees.flat(Y, as_array)


def as_array(v: Any) -> np.ndarray | None:
    """A tensor or a number as NumPy; None for what is none."""
    is_number = isinstance(v, (bool, int, float, np.ndarray, np.generic))
    if not (is_number or keras.ops.is_tensor(v)):
        return None
    array: Any = keras.ops.convert_to_numpy(v)
    return np.asarray(array)


def dtype_of(model: keras.Model) -> str:
    """The least exact dtype that a model computes in: "float32"."""
    dtypes = {layer.compute_dtype for layer in units_of(model).values()}
    return max(dtypes & EPS.keys(), key=EPS.__getitem__, default="float32")


# --- In float64, where the same sums in another order show no difference ------------


def exact(model: keras.Model) -> keras.Model:
    """A copy in float64, whatever dtype policies the model has."""
    with float64_by_default():
        return rebuilt(model, in_float64, like=wide_input)


@contextlib.contextmanager
def float64_by_default() -> Iterator[None]:
    """Layers may make others, or numbers, that are told no dtype."""
    floatx, policy = keras.config.floatx(), keras.config.dtype_policy()
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    try:
        yield
    finally:
        keras.config.set_floatx(floatx)
        keras.config.set_dtype_policy(policy)


def in_float64(layer: keras.Layer) -> keras.Layer:
    """`cloned`, in float64; so is what the layer wraps."""
    return cloned(layer, widened)


def widened(config: Any) -> Any:
    """A config that asks for float64 wherever it asks for a float."""
    if isinstance(config, (list, tuple)):
        return type(config)(map(widened, config))
    if not isinstance(config, dict):
        return config
    if config.get("class_name") == "DTypePolicy":
        return "float64" if config["config"]["name"] in FLOATS else config
    return {
        k: "float64" if k == "dtype" and v in FLOATS else widened(v)
        for k, v in config.items()
    }


def wide_input(tensor: Any) -> Any:
    """An input in float64, unless it counts something."""
    dtype = tensor.dtype
    return input_like(tensor, "float64" if dtype in FLOATS else dtype)
