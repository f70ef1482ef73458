"""What there is to know of a layer of any framework, and the layers of a model.

What a framework calls things is in its backend's `builtin.NAMES`; the rest is here.  No
framework is imported before a layer of it is given.
"""

import importlib

import numpy as np

from bn_from_scratch import backends
from bn_from_scratch.checker.adapters import MODULES

TORCH_DIMS = {"BatchNorm1d": 2, "BatchNorm2d": 4, "BatchNorm3d": 5}
SWITCHES = {"gamma": ("scale", "use_scale"), "beta": ("center", "use_bias")}


def framework_of(thing):
    """The backend's name of a layer or model; TypeError where it is of none."""
    for base in type(thing).__mro__:
        if (top := base.__module__.split(".")[0]) in MODULES:
            return MODULES[top]
    raise TypeError(
        "what is diagnosed must be a record, its path, or a layer or model of "
        f"{', '.join(backends.NAMES)}; got {type(thing).__name__}"
    )


def names(framework):
    """Ours -> the framework's."""
    return importlib.import_module(f"{backends.__name__}.{framework}.builtin").NAMES


def is_batch_norm(thing):
    """Whether a layer has moving averages, or would have once it is built."""
    return "BatchNorm" in " ".join(base.__name__ for base in type(thing).__mro__)


def has(layer, name):
    """Whether a layer has a gamma, a beta, moving averages."""
    if framework_of(layer) == "torch":
        own = names("torch")[name]
        return any(getattr(layer, k, None) is not None for k in (name, own))
    return all(getattr(layer, switch, True) for switch in SWITCHES.get(name, ()))


def state(layer):
    """The layer's own gamma, beta, moving_mean, moving_var [C], once it has them."""
    framework = framework_of(layer)
    if framework == "jax":
        return _flax_state(layer)
    found = {}
    for name, own in names(framework).items():
        value = getattr(layer, name, None)
        value = getattr(layer, own, None) if value is None else value
        array = None if value is None else _array(value, framework)
        if array is not None:
            found[name] = array
    return found


def _flax_state(layer):
    """Of a module that was given variables: `layer.bind(variables)`."""
    if layer.scope is None:
        return {}
    theirs = {own: name for name, own in names("jax").items()}
    return {
        theirs.get(own, own): np.array(v)
        for kind in ("params", "batch_stats")
        for own, v in layer.variables.get(kind, {}).items()
    }


def _array(value, framework):
    """NumPy array of a parameter; None for one that has no value yet."""
    if framework == "torch":
        lazy = hasattr(value, "materialize")
        return None if lazy else value.detach().cpu().numpy().copy()
    if framework == "mxnet":
        return None if value._data is None else value.data().asnumpy()
    return np.array(value)


def settings(layer):
    """eps, and momentum as the weight of the new batch, as far as they are set."""
    framework = framework_of(layer)
    own = type(layer).__module__.split(".")[0] == __name__.split(".")[0]
    given = vars(layer) | getattr(layer, "_kwargs", {})
    eps = given.get("eps", given.get("epsilon"))
    momentum = given.get("momentum")
    if momentum is not None and framework != "torch" and not own:
        momentum = 1 - momentum
    found = {"eps": eps, "momentum": momentum}
    return {k: v for k, v in found.items() if v is not None}


def sizes(layer):
    """num_features and num_dims of a layer; None for what it takes any of."""
    values = state(layer)
    C = getattr(layer, "num_features", None)
    if not isinstance(C, int):
        C = next((v.size for v in values.values()), None)
    if C is None:
        C = getattr(layer, "_in_channels", None) or None
    spec = getattr(layer, "input_spec", None)
    dims = getattr(layer, "num_dims", None) or getattr(spec, "ndim", None)
    return C, dims or TORCH_DIMS.get(type(layer).__name__)


# --- The batch norms of a model ------------------------------------------------------


def batch_norms(model):
    """{path: layer} of every batch norm in a model, in order."""
    framework = framework_of(model)
    if framework == "torch":
        named = model.named_modules()
    elif framework == "tensorflow":
        named = ((layer.name, layer) for layer in model._flatten_layers())
    elif framework == "mxnet":
        named = _blocks(model)
    else:
        raise TypeError(
            "a Flax model does not hold its layers: give `diagnose` two of them, bound "
            "to their variables (layer.bind(variables)), or records"
        )
    return {path: layer for path, layer in named if is_batch_norm(layer)}


def _blocks(block, path=""):
    for name, child in block._children.items():
        yield f"{path}{name}", child
        yield from _blocks(child, f"{path}{name}.")
