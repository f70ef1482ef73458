"""What a PyTorch model may have that its batch norms do not show."""

from collections.abc import Iterable

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm as Native
from torch.nn.modules.instancenorm import _InstanceNorm

from bn_from_scratch.backends.torch.builtin import NAMES
from bn_from_scratch.backends.torch.layer import BatchNorm
from bn_from_scratch.backends.torch.models import copying

HOOKS = "_forward_pre_hooks", "_forward_hooks"
HOOKS += "_backward_pre_hooks", "_backward_hooks"
STATISTICS = ("moving_mean", "moving_var"), (NAMES["moving_mean"], NAMES["moving_var"])


def others_of(model: nn.Module) -> dict[str, str]:
    """{path: class} of layers that keep moving statistics, but are of no known kind."""
    kinds = Native, BatchNorm, _InstanceNorm
    return {
        path: type(layer).__name__
        for path, layer in model.named_modules()
        if not isinstance(layer, kinds)
        and any({*pair} <= dir_of(layer) for pair in STATISTICS)
    }


def dir_of(layer: nn.Module) -> set[str]:
    """The names of what a module itself holds."""
    return {*vars(layer), *layer._buffers, *layer._parameters}


def hook_of(layer: nn.Module) -> str | None:
    """What kind of hook a layer has, in words; None if it has none."""
    for hooks in HOOKS:
        given = getattr(layer, hooks).values()
        # A layer without sizes has one of its own, by which it takes them.
        if any(getattr(hook, "__self__", None) is not layer for hook in given):
            return hooks.strip("_").removesuffix("s").replace("_", " ")
    return None


def check_hooks(path: str, layer: nn.Module, done: str) -> None:
    """Raise ValueError if a hook would be lost with this layer."""
    if hook := hook_of(layer):
        kind = type(layer).__name__
        raise ValueError(
            f"{path or kind} cannot be {done}: its hooks would be lost; "
            f"this {kind} has a {hook}"
        )


def check_modes(model: nn.Module, changed: nn.Module, norms: Iterable[str]) -> None:
    """Raise ValueError if `train` of a module knows the old layers, not the new ones.

    One that keeps the batch norms in prediction finds them by their class.  norms: the
    paths of the batch norms.
    """
    usual = nn.Module.train
    own = [m for m in model.modules() if getattr(m.train, "__func__", None) != usual]
    if not own:
        return
    for training in (True, False):
        both = (copying.copied(m).train(training) for m in (model, changed))
        before, after = (dict(m.named_modules()) for m in both)
        for path in norms:
            if after[path].training != before[path].training:
                raise ValueError(
                    f"{path} cannot be replaced: `train` must put the new layer into "
                    f"the mode of the old one; that of {type(own[0]).__name__} does "
                    f"not do so for a {type(after[path]).__name__}"
                )
