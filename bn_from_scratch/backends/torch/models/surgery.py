"""Model surgery in PyTorch: find the batch norms of a model, and replace them."""

import copy
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm as Native
from torch.nn.parameter import is_lazy

from bn_from_scratch.backends.torch.batch_norm import CHANNEL_AXIS, promote
from bn_from_scratch.backends.torch.builtin import LAYERS, NAMES
from bn_from_scratch.backends.torch.layer import BatchNorm
from bn_from_scratch.backends.torch.models import copying, refusals
from bn_from_scratch.backends.torch.models.refusals import others_of
from bn_from_scratch.surgery import known, proof
from bn_from_scratch.surgery.description import Description

PARAMETERS = "gamma", "beta"
STATISTICS = "moving_mean", "moving_var"
HOME = Native.__module__  # of every batch norm of PyTorch
Norm = Native | BatchNorm


def batch_norms(model: nn.Module) -> dict[str, Description]:
    """{path: Description} of every batch norm of a model, PyTorch's own and ours.

    The path is that of `named_modules`: "layer1.0.bn2"; the model's own is "".
    PyTorch's own stores the unbiased variance; with `track_running_stats = False` it
    predicts by the batch or, if it has statistics all the same, it has momentum 0.
    """
    return {path: describe(path, layer) for path, layer in norms_of(model).items()}


def norms_of(model: nn.Module) -> dict[str, Norm]:
    """{path: layer} of every batch norm."""
    layers = model.named_modules()
    return {k: v for k, v in layers if isinstance(v, (Native, BatchNorm))}


def check_model(model: nn.Module, done: str) -> None:
    """Raise ValueError for a model without batch norm, or with one that does more.

    done: what is to be done with each of them, "folded".
    """
    described = batch_norms(model)
    known.check_any(described, others_of(model))
    known.check_known(described, done)


def describe(path: str, layer: Norm) -> Description:
    """One batch norm in the spec's words."""
    state = state_of(layer)
    if isinstance(layer, Native):
        num_dims = next((n for n in (4, 5) if isinstance(layer, LAYERS[n])), None)
        stuck = layer.running_mean is not None and not layer.track_running_stats
        settings = {
            "momentum": 0.0 if stuck else layer.momentum,
            "axis": CHANNEL_AXIS,
            "correction": 1,
            "statistics": "batch" if layer.running_mean is None else "moving",
            "frozen": None,
        }
    else:
        num_dims = layer.num_dims
        names = "momentum", "axis", "correction", "statistics", "frozen"
        settings = {name: getattr(layer, name) for name in names}
    settings |= {"eps": layer.eps, "center": "beta" in state, "scale": "gamma" in state}
    dtype = next((v.dtype for v in state.values() if v.is_floating_point()), None)
    settings["dtype"] = dtype and str(dtype).removeprefix("torch.")
    built = {k: v for k, v in state.items() if not is_lazy(v)}
    return Description(
        path or type(layer).__name__,
        type(layer).__name__,
        isinstance(layer, Native),
        layer.num_features or None,
        num_dims,
        settings,
        {k: numpy(built[k]) for k in (*PARAMETERS, *STATISTICS) if k in built},
        {k: state[k].requires_grad for k in PARAMETERS if k in state},
        known.peculiarity(layer, [HOME]),
    )


def state_of(layer: Norm) -> dict[str, Tensor]:
    """The tensors of a batch norm under our names."""
    return {name: store[key] for name, (store, key) in places_of(layer).items()}


def places_of(layer: Norm) -> dict[str, tuple[dict[str, Any], str]]:
    """Where a batch norm keeps its tensors: {our name: (dictionary, its key there)}."""
    names = NAMES if isinstance(layer, Native) else {}
    theirs = {v: k for k, v in names.items()}
    return {
        theirs.get(key, key): (store, key)
        for store in (layer._parameters, layer._buffers)
        for key, v in store.items()
        if v is not None
    }


def numpy(v: Tensor) -> np.ndarray:
    """A copy as NumPy; it knows no bfloat16."""
    return promote(v.detach()).cpu().numpy().copy()


def replace_batch_norm(
    model: nn.Module,
    make: Callable[..., nn.Module],
    X: Any = None,
    modes: Iterable[str] = copying.MODES,
) -> nn.Module:
    """A new model, with `make(num_features, num_dims, **settings)` for each batch norm.

    make: BatchNorm, partial(GhostBatchNorm, ghost_size=8), ... or `builtin`; what a
    `partial` sets, such as momentum=0.01, wins over what the old layer has.  State,
    `requires_grad` and mode are kept, and what a variant counts besides, if the new
    layer counts it.  With momentum=None PyTorch counts batches and we values: there
    the first step of training starts the averages anew.
    A layer that does more than a batch norm (a subclass with a forward of its own, one
    with hooks) raises ValueError.
    With an input X the outputs of both models are proven equal in these modes (in
    float64), or ValueError is raised.  A variant differs in training: leave that out.
    """
    known.check_any(norms_of(model), others_of(model))
    memo = copying.new_memo(model)
    for path, old in norms_of(model).items():
        memo[id(old)] = replacement(path, old, make, memo)
    changed = copying.copied(model, memo)
    refusals.check_modes(model, changed, norms_of(model))
    if X is not None:
        prove(model, changed, X, modes)
    return changed


def prove(
    model: nn.Module, changed: nn.Module, X: Any, modes: Iterable[str]
) -> dict[str, float]:
    """Raise ValueError unless two models answer alike in these modes."""

    def answers(model: Any, in_float64: bool) -> proof.Answers:
        return copying.outputs(model, X, modes, in_float64)

    return proof.prove_same(answers, model, changed, copying.dtype_of(model))


def replacement(
    path: str, old: Norm, make: Callable[..., nn.Module], memo: copying.Memo
) -> nn.Module:
    """The new layer, with the copy of the old one's state."""
    described = describe(path, old)
    frozen = described.settings["frozen"]
    if frozen is None:
        del described.settings["frozen"]  # FrozenBatchNorm does not take it
    check_own_state(described, old)
    refusals.check_hooks(path, old, "replaced")
    new = described.make(make)
    known.check_replaced(described, known.peculiarity(new, [HOME]))
    given = state_of(old)
    check_state(described, described.wanted(make)["statistics"], given, new)
    for v in given.values():
        new.to(v.device)
    new.train(old.training)
    for name, (store, key) in places_of(new).items():
        if name in given:
            own, store[key] = store[key], inherited(given[name], store[key], memo)
            if getattr(new, "frozen", frozen) != frozen:  # `make` decides
                store[key].requires_grad = own.requires_grad
    return new


def inherited(v: Tensor, own: Tensor, memo: copying.Memo) -> Tensor:
    """The copy of a tensor for the place of another, whose dtype it takes."""
    if v.dtype == own.dtype:
        return copy.deepcopy(v, memo)
    if is_lazy(v):
        return own
    changed = v.detach().to(own.dtype, copy=True)
    is_parameter = isinstance(own, nn.Parameter)
    return nn.Parameter(changed, v.requires_grad) if is_parameter else changed


def check_own_state(described: Description, old: Norm) -> None:
    """Raise ValueError if what should be state is computed."""
    given = state_of(old)
    for ours, theirs in NAMES.items():
        name = theirs if described.native else ours
        if getattr(old, name) is not None and ours not in given:
            raise ValueError(
                f"{described.name} cannot be replaced: its {name} must be a tensor of "
                "its own; it is computed"
            )


def check_state(
    described: Description, statistics: str, given: dict[str, Tensor], new: Any
) -> None:
    """Raise ValueError unless the new layer can have all the state of the old one.

    statistics: those by which the new layer predicts.
    """
    needed = PARAMETERS if statistics == "batch" else (*PARAMETERS, *STATISTICS)
    taken = state_of(new)
    for name in needed:
        if name in given and name not in taken:
            raise ValueError(
                f"{described.name} cannot be replaced: the new layer must keep its "
                f"{name}; {type(new).__name__} has {', '.join(taken) or 'no state'}"
            )
