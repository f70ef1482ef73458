"""Model surgery in Keras: find the batch norms of a model, and replace them."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import keras

from bn_from_scratch.backends.tensorflow.builtin import NAMES
from bn_from_scratch.backends.tensorflow.layer import BatchNorm
from bn_from_scratch.backends.tensorflow.models import copying
from bn_from_scratch.surgery import known, paths, proof
from bn_from_scratch.surgery.description import Description

Native = keras.layers.BatchNormalization
HOME = Native.__module__
INSTANCE = "build", "quantize"  # Keras wraps them in every layer
# Arguments that Keras's layer has too: ours -> theirs.
SHARED = {
    f"{ours}_initializer": f"{theirs}_initializer" for ours, theirs in NAMES.items()
}
KEPT = ("name", "gamma_regularizer", "beta_regularizer")
KEPT += ("gamma_constraint", "beta_constraint")
SHARED |= {name: name for name in KEPT}


def batch_norms(model: keras.Model) -> dict[str, Description]:
    """{path: Description} of every batch norm of a model, Keras's own and ours.

    The path names the models that the layer lies in: "backbone.bn1".
    """
    return {path: describe(path, layer) for path, layer in norms_of(model).items()}


def norms_of(
    model: keras.Model, kinds: tuple[type[keras.Layer], ...] = (Native, BatchNorm)
) -> dict[str, keras.Layer]:
    """{path: layer} of every batch norm."""
    layers = copying.walk(model)
    return paths.unique((path, v) for path, v in layers if isinstance(v, kinds))


def others_of(model: keras.Model) -> dict[str, str]:
    """{path: class} of layers that keep moving statistics, but are of no known kind."""
    pairs = ("moving_mean", "moving_var"), (NAMES["moving_mean"], NAMES["moving_var"])
    return {
        path: type(layer).__name__
        for path, layer in copying.layers_of(model).items()
        if not isinstance(layer, (Native, BatchNorm))
        and any({*pair} <= vars(layer).keys() for pair in pairs)
    }


def check_model(model: keras.Model, done: str) -> None:
    """Raise ValueError for a model without batch norm, or with one that does more.

    done: what is to be done with each of them, "folded".
    """
    described = batch_norms(model)
    known.check_any(described, others_of(model))
    known.check_known(described, done)


def describe(path: str, layer: Any) -> Description:
    """One batch norm in the spec's words."""
    native, built = isinstance(layer, Native), layer.built
    if native:
        num_features = layer.moving_mean.shape[0] if built else None
        sizes = num_features, layer.input_spec.ndim if built else None
        settings = {"eps": layer.epsilon, "momentum": 1 - layer.momentum}
        settings |= {"correction": 0, "statistics": "moving", "frozen": None}
    else:
        sizes = layer.num_features, layer.num_dims
        names = "eps", "momentum", "correction", "statistics", "frozen"
        settings = {name: getattr(layer, name) for name in names}
    settings |= {name: getattr(layer, name) for name in ("axis", "center", "scale")}
    settings["dtype"] = layer.dtype_policy.name
    state = state_of(layer)
    return Description(
        path,
        type(layer).__name__,
        native,
        *sizes,
        settings,
        {name: v.numpy() for name, v in state.items()},
        {name: state[name].trainable for name in ("gamma", "beta") if name in state},
        known.peculiarity(layer, [HOME], INSTANCE),
    )


def state_of(layer: keras.Layer) -> dict[str, keras.Variable]:
    """The variables of a batch norm under our names."""
    theirs = {v: k for k, v in NAMES.items()}
    named: dict[str, keras.Variable] = {v.name: v for v in layer.variables}
    return {theirs.get(name, name): v for name, v in named.items()}


def replace_batch_norm(
    model: keras.Model,
    make: Callable[..., keras.Layer],
    X: Any = None,
    modes: Sequence[str] = ("prediction", "training"),
) -> keras.Model:
    """A new model, with `make(num_features, num_dims, **settings)` for each batch norm.

    make: BatchNorm, partial(GhostBatchNorm, ghost_size=8), ... or `builtin`; what a
    `partial` sets, such as momentum=0.01, wins over what the old layer has.  It is
    given all settings, name and initializers too.  Parameters and statistics, the dtype
    policy and `trainable` are kept; what a variant counts besides, if the new layer
    counts it.  A layer that does more than a batch norm (a subclass with a call of its
    own) raises ValueError.
    With an input X the outputs of both models are proven equal in these modes (in
    float64), or ValueError is raised.  A variant differs in training: leave that out.
    """
    known.check_any(norms_of(model), others_of(model))
    paths = {id(layer): path for path, layer in norms_of(model).items()}
    check_places(model, paths)

    def clone(layer):
        if id(layer) not in paths:
            return copying.cloned(layer)
        return replacement(paths[id(layer)], layer, make)

    def write(old, new):
        if id(old) in paths:
            write_norm(paths[id(old)], old, new, make)
        else:
            copying.write(old, new)

    copy = copying.rebuilt(model, clone, write)
    if X is not None:
        prove(model, copy, X, modes)
    return copy


def check_places(model: keras.Model, paths: dict[int, str]) -> None:
    """Raise ValueError for a batch norm that cannot be exchanged where it lies."""
    places = {id(layer) for layer in copying.units_of(model).values()}
    for layer, path in paths.items():
        if copying.is_graph(model) and layer not in places:
            raise ValueError(
                f"{path} cannot be replaced: it must lie in a functional or "
                f"sequential model; it lies in a layer or model of another kind"
            )


def prove(
    model: keras.Model, changed: keras.Model, X: Any, modes: Sequence[str]
) -> dict[str, float]:
    """Raise ValueError unless two models answer alike in these modes."""

    def answers(model: Any, in_float64: bool) -> proof.Answers:
        return copying.outputs(model, X, modes, in_float64)

    return proof.prove_same(answers, model, changed, copying.dtype_of(model))


def replacement(
    path: str, layer: keras.Layer, make: Callable[..., keras.Layer]
) -> keras.Layer:
    """The new layer, without its state."""
    native, described = isinstance(layer, Native), describe(path, layer)
    theirs = SHARED.values() if native else SHARED
    given = zip(SHARED, theirs, strict=True)
    shared = {name: getattr(layer, own) for name, own in given}
    settings = described.settings | shared
    if settings["frozen"] is None:
        del settings["frozen"]  # FrozenBatchNorm does not take it
    new = dataclasses.replace(described, settings=settings).make(make)
    known.check_replaced(described, known.peculiarity(new, [HOME], INSTANCE))
    return new


def write_norm(
    path: str, old: keras.Layer, new: keras.Layer, make: Callable[..., keras.Layer]
) -> None:
    """Give the new layer, which `make` gave, the state of the old one."""
    copying.build_like(old, new)
    # Keras's word for frozen="all" is trainable=False, which `make` has set.
    all_frozen = isinstance(new, Native) and getattr(old, "frozen", None) == "all"
    new.trainable = old.trainable and not all_frozen
    given, taken = state_of(old), state_of(new)
    needed = describe(path, old).needed(make)
    for name in given:
        if name in taken:
            taken[name].assign(given[name])
        elif name in needed:
            raise ValueError(
                f"{path} cannot be replaced: the new layer must keep its {name}; "
                f"{type(new).__name__} has {', '.join(sorted(taken))}"
            )
    for name in ("gamma", "beta"):
        if name in given and not given[name].trainable:
            taken[name].trainable = False
