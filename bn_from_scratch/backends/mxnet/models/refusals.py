"""What a Gluon model may have that its batch norms do not show."""

from mxnet.gluon import Block
from mxnet.gluon.nn.basic_layers import _BatchNorm as Native

from bn_from_scratch.backends.mxnet.blocks import layers_of
from bn_from_scratch.backends.mxnet.builtin import NAMES
from bn_from_scratch.backends.mxnet.layer import BatchNorm

HOOKS = "_forward_pre_hooks", "_forward_hooks"
STATISTICS = ("moving_mean", "moving_var"), (NAMES["moving_mean"], NAMES["moving_var"])


def others_of(model: Block) -> dict[str, str]:
    """{path: class} of blocks that keep moving statistics, but are of no known kind."""
    return {
        path: type(layer).__name__
        for path, layer in layers_of(model).items()
        if not isinstance(layer, (Native, BatchNorm))
        and any({*pair} <= vars(layer).keys() for pair in STATISTICS)
    }


def hook_of(layer: Block) -> str | None:
    """What kind of hook a layer has, in words; None if it has none."""
    for hooks in HOOKS:
        if getattr(layer, hooks):
            return hooks.strip("_").removesuffix("s").replace("_", " ")
    return None


def check_hooks(path: str, layer: Block, done: str) -> None:
    """Raise ValueError if a hook would be lost with this layer."""
    if hook := hook_of(layer):
        kind = type(layer).__name__
        raise ValueError(
            f"{path or kind} cannot be {done}: its hooks would be lost; "
            f"this {kind} has a {hook}"
        )
