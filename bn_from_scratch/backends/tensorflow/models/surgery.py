"""Model surgery in Keras: find the batch norms of a model, and replace them."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import keras

from bn_from_scratch.backends.tensorflow.builtin import NAMES
from bn_from_scratch.backends.tensorflow.layer import BatchNorm
from bn_from_scratch.backends.tensorflow.models import copying
from bn_from_scratch.surgery import proof
from bn_from_scratch.surgery.description import Description

Native = keras.layers.BatchNormalization
STATE = ("gamma", "beta", "moving_mean", "moving_var", "moving_count")
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
    layers = copying.layers_of(model).items()
    return {path: layer for path, layer in layers if isinstance(layer, kinds)}


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

    make: BatchNorm, partial(GhostBatchNorm, ghost_size=8), ... or `builtin`.  It is
    given all settings, name and initializers too.  Parameters and statistics, the dtype
    policy and `trainable` are kept; what a variant counts besides, if the new layer
    counts it.  With an input X the outputs of both models are proven equal in these
    modes (in float64), or ValueError is raised.  A variant differs in training: leave
    that out.
    """
    norms = norms_of(model)
    if not norms:
        raise ValueError("the model must have a batch norm; it has none")
    paths = {id(layer): path for path, layer in norms.items()}
    made = set()

    def clone(layer):
        if id(layer) not in paths:
            return copying.cloned(layer)
        made.add(paths[id(layer)])
        return replacement(paths[id(layer)], layer, make)

    def write(old, new):
        if id(old) in paths:
            write_norm(paths[id(old)], old, new)
        else:
            copying.write(old, new)

    copy = copying.rebuilt(model, clone, write)
    for path in paths.values():
        if path not in made:
            raise ValueError(
                f"{path} cannot be replaced: it must lie in a functional or "
                f"sequential model; it lies in a layer or model of another kind"
            )
    if X is not None:
        before, after = (copying.outputs(m, X, modes) for m in (model, copy))
        proof.prove(before, after)
    return copy


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
    return dataclasses.replace(described, settings=settings).make(make)


def write_norm(path: str, old: keras.Layer, new: keras.Layer) -> None:
    """Give the new layer the state of the old one."""
    copying.build_like(old, new)
    # Keras's word for frozen="all" is trainable=False, which `make` has set.
    all_frozen = isinstance(new, Native) and getattr(old, "frozen", None) == "all"
    new.trainable = old.trainable and not all_frozen
    given, taken = state_of(old), state_of(new)
    for name in given:
        if name in taken:
            taken[name].assign(given[name])
        elif name in STATE:
            raise ValueError(
                f"{path} cannot be replaced: the new layer must keep its {name}; "
                f"{type(new).__name__} has {', '.join(sorted(taken))}"
            )
    for name in ("gamma", "beta"):
        if name in given and not given[name].trainable:
            taken[name].trainable = False
