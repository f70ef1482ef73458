"""Model surgery in Flax: find the batch norms of a model, and replace them."""

from functools import partial

from flax import nnx
from flax.traverse_util import flatten_dict, unflatten_dict

from bn_from_scratch.backends.jax.models import nnx_surgery, norms, rewiring
from bn_from_scratch.surgery import proof


def batch_norms(model, X=None, variables=None):
    """{path: Description} of every batch norm of a module, Flax's own and ours.

    The path names the modules that the layer lies in: "block1.bn1".  A linen module has
    no list of its layers and no variables: it is traced on X, and its state is that of
    `variables`.  An nnx module needs neither.
    """
    if isinstance(model, nnx.Module):
        return nnx_surgery.batch_norms(model)
    return {
        ".".join(path): d for path, (_, d, _) in traced(model, X, variables).items()
    }


def traced(model, X, variables):
    """{path: (layer, Description, shape of its X)} of a linen module."""
    if X is None:
        raise ValueError("a linen module must be traced to find its layers; X is None")
    found = {}

    def note(layer, args, kwargs, Y):
        if isinstance(layer, norms.NORMS):
            shape = norms.call_of(layer, args, kwargs)[0].shape
            own = norms.variables_of(variables or {}, layer.path)
            path, state = ".".join(layer.path), norms.state_of(own)
            described = norms.describe(path, layer, shape, state)
            found.setdefault(layer.path, (layer.clone(parent=None), described, shape))

    rewiring.trace(model, variables, X, note)
    return found


def replace_batch_norm(
    model, make, X=None, modes=("prediction", "training"), variables=None
):
    """A new module and its variables, with `make(num_features, num_dims, **settings)`
    for each batch norm; of an nnx module, the new module alone.

    make: BatchNorm, partial(GhostBatchNorm, ghost_size=8), ... or `builtin`.  It is
    given all settings, initializers too.  The new linen module wraps the old one and
    takes the variables at the same paths, under the new layer's names; `init` works.
    X, an array or a tuple of inputs, is needed for `variables`, or to prove that the
    outputs are equal in these modes (in float64); ValueError if they are not.  A
    variant differs in training: leave that out.
    """
    if isinstance(model, nnx.Module):
        return nnx_surgery.replace_batch_norm(model, make, X, modes)
    new = rewiring.rewired(model, partial(answer, make))
    if X is None:
        if variables is not None:
            raise ValueError("variables are found by tracing the module; X is None")
        return new, None
    found = traced(model, X, variables)
    if not found:
        raise ValueError("the model must have a batch norm; it has none")
    given = variables
    if given is None:
        _, given = rewiring.run(model, None, X)
    written = replaced(given, found, make)
    before = rewiring.outputs(model, given, X, modes)
    after = rewiring.outputs(new, written, X, modes)
    proof.prove(before, after)
    return new, None if variables is None else written


def answer(make, layer, args, kwargs):
    """What the layer that `make` gives answers in the place of a batch norm."""
    if not isinstance(layer, norms.NORMS):
        return None
    shape = norms.call_of(layer, args, kwargs)[0].shape
    described = norms.describe(".".join(layer.path), layer, shape, {})
    new = new_layer(described, layer, make).clone(parent=layer.scope)
    return norms.answer_as(new, layer, args, kwargs)


def new_layer(described, layer, make):
    """What `make` gives for a linen layer, outside of any module."""
    others = norms.initializers_of(layer) | norms.replicas_of(layer)
    return norms.replacement(described, make, **others)


def replaced(variables, found, make):
    """The variables under the names that the new layers read."""
    flat = flatten_dict(variables)
    for path, (layer, described, shape) in found.items():
        own = norms.variables_of(variables, path)
        new = new_layer(described, layer, make)
        for kind, values in own.items():
            for name in values:
                del flat[kind, *path, name]
        for kind, values in norms.moved(described.name, own, new, shape).items():
            flat |= {(kind, *path, name): v for name, v in values.items()}
    return unflatten_dict(flat)
