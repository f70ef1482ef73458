"""The batch norms of a file, in the spec's words, read as `bn port` reads them."""

from typing import Any, NamedTuple

from bn_from_scratch import spec
from bn_from_scratch.port import assumptions, content, files, names, translate, words
from bn_from_scratch.port.content import Content, Norm
from bn_from_scratch.surgery.description import Description


class Described(NamedTuple):
    """notes: on what is not said.  unknown: {path: class} of what may be one."""

    framework: str
    layers: list[Description]
    unknown: dict[str, str]
    notes: list[str]


def described(
    path: Any,
    eps: float | None = None,
    momentum: float | None = None,
    from_: str | None = None,
    absent: str | None = None,
) -> Described:
    """A Description of each batch norm of a file.

    A setting that neither the file nor its user says is None.  Options as of `port`.
    """
    found = files.read(path, from_, absent, content.check_form, use="examined")
    found = translate.stated(found, eps, momentum)
    norms = found.norms | _halves(found)
    if not (norms or found.unknown):
        raise ValueError(f"{path} has no batch norm")
    layers = [_describe(layer, norm) for layer, norm in norms.items()]
    return Described(found.framework, layers, found.unknown, _notes(found))


def _notes(found: Content) -> list[str]:
    """How much hangs on an eps that nobody said."""
    silent = {path: norm for path, norm in found.norms.items() if norm.eps is None}
    if not silent:
        return []
    low, high = 1e-5, 1e-3
    some = "" if len(silent) == len(found.norms) else f" of {len(silent)} layers"
    changes = {
        path: assumptions.change(norm.state["moving_var"], low, high)
        for path, norm in silent.items()
    }
    worst = max(changes, key=changes.__getitem__)
    place = f", in {worst}" if worst else ""
    return [
        f"the file does not say eps{some}: between 1e-5 and 1e-3 the output would "
        f"change by up to {assumptions.percent(changes[worst])}{place} (state it: eps)"
    ]


def _halves(found: Content) -> dict[str, Norm]:
    """{path: Norm} of the layers that have some of a batch norm's vectors, not all.

    They have a gamma or one of the statistics, and nothing else but a beta.
    """
    theirs = words.names(found.framework, scratch=False)
    ours = {name: own for own, name in theirs.items()}
    layers = names.by_layer(found.others)
    return {
        path: names.make_norm(own, theirs, scratch=False)
        for path, own in layers.items()
        if own.keys() - {theirs["beta"], names.COUNTER}
        and own.keys() <= {*ours, names.COUNTER}
        and all(v.ndim == 1 for name, v in own.items() if name in ours)
    }


def _describe(path: str, norm: Norm) -> Description:
    settings = {"eps": norm.eps, "momentum": norm.momentum, "axis": spec.CHANNEL_AXIS}
    settings |= {"statistics": norm.statistics, "frozen": None}
    kind = "BatchNorm" if norm.scratch else "built-in"
    sizes = next(iter(norm.state.values())).size, None
    return Description(path, kind, not norm.scratch, *sizes, settings, norm.state)
