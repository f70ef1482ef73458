"""What there is to know of a layer of any framework, and the layers of a model.

The backends' `surgery` describes them; no framework is imported before a layer of it is
given.
"""

from typing import Any

from bn_from_scratch import backends
from bn_from_scratch.surgery.description import Description

NUM_DIMS = {"BatchNorm1d": 2}  # it takes 3 axes too


def is_batch_norm(thing: object) -> bool:
    """Whether a layer has moving averages, or would have once it is built."""
    return "BatchNorm" in " ".join(base.__name__ for base in type(thing).__mro__)


def describe(layer: Any) -> Description:
    """The Description of one batch norm, as far as it is built."""
    framework = backends.framework_of(layer)
    if framework == "jax":
        return _of_flax(layer)
    return backends.part(framework, "models.surgery").describe("", layer)


def sizes(layer: Any) -> tuple[int | None, int | None]:
    """num_features and num_dims of a layer; None for what it takes any of.

    ValueError for a layer with several channel axes, whose X is not [N, C, *].
    """
    found = describe(layer)
    C, axis = found.num_features, found.settings["axis"]
    if isinstance(axis, tuple | list) and len(axis) > 1:
        raise ValueError(f"a layer to record must have one channel axis; got {axis}")
    num_features = C[0] if isinstance(C, tuple) else C
    return num_features, found.num_dims or NUM_DIMS.get(found.kind)


def batch_norms(model: Any) -> dict[str, Any]:
    """{path: layer} of every batch norm in a model, in order.

    A Flax module does not hold its layers: it comes as (module, variables, X).
    """
    if isinstance(model, tuple):
        return _of_flax_model(*model)
    framework = backends.framework_of(model)
    if framework == "jax":
        raise TypeError(
            "a Flax module does not hold its layers: give (module, variables, X), with "
            "an input to trace it on"
        )
    return backends.part(framework, "models.surgery").norms_of(model)


def _of_flax_model(module, variables, X):
    """Each batch norm of a linen module, bound to its own variables."""
    from bn_from_scratch.backends.jax.models import norms, surgery

    return {
        ".".join(path): layer.bind(norms.variables_of(variables, path))
        for path, (layer, _, _) in surgery.traced(module, X, variables).items()
    }


def _of_flax(layer):
    """A linen layer; its state, if it was given one: `layer.bind(variables)`."""
    from bn_from_scratch.backends.jax.models import norms

    variables = {} if layer.scope is None else layer.variables
    state = norms.state_of(norms.variables_of(variables, ()))
    num_features = getattr(layer, "num_features", None)
    if num_features is None and state:
        num_features = next(iter(state.values())).size
    sizes = num_features, getattr(layer, "num_dims", None)
    native, kind = norms.is_native(layer), type(layer).__name__
    settings = norms.settings_of(layer)
    return Description("", kind, native, *sizes, settings, state)
