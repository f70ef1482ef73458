"""Where a state_dict stands in a checkpoint: itself, under a key, or among numbers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

CUSTOMARY = ("state_dict", "model_state_dict", "model", "net", "network", "module")
VARIANCES = ("running_var", "moving_var")  # by which a batch norm is known
DEPTH = 3  # of keys, below the top


@dataclass(frozen=True)
class Found:
    """named: {name: array}.  keys: what leads there, if it stands in one place.
    beside: the keys of what is not in it."""

    named: dict[str, Any]
    keys: tuple[str, ...] | None
    beside: tuple[str, ...]


def state_dict(loaded: Any, is_array: Callable[[Any], bool]) -> Found | None:
    """The state_dict of a checkpoint; None where there is none.

    Of several, the one under a customary key is meant, or the only one with batch
    norms; else all are, and their keys stand before the names.

    >>> state = {"bn.running_var": 1.0}
    >>> both = {"generator": state, "critic": state, "epoch": 3}
    >>> found = state_dict(both, lambda v: isinstance(v, float))
    >>> [*found.named], found.beside
    (['generator.bn.running_var', 'critic.bn.running_var'], ('epoch',))
    """
    found = dict(_found(loaded, is_array))
    found = {keys: d for keys, d in found.items() if _has_norm(d)} or found
    if not found:
        return None
    customary = [keys for keys in found if all(key in CUSTOMARY for key in keys)]
    taken = customary if len(customary) == 1 else [*found]
    beside = tuple(_beside(loaded, taken, is_array))
    if len(taken) == 1:
        return Found(found[taken[0]], taken[0], beside)
    named = {".".join((*k, name)): v for k in taken for name, v in found[k].items()}
    return Found(named, None, beside)


def _found(thing, is_array, keys=()):
    """(the keys that lead there, {name: array}) of each dict with arrays by name."""
    if not isinstance(thing, Mapping) or len(keys) > DEPTH:
        return
    arrays = {k: v for k, v in thing.items() if isinstance(k, str) and is_array(v)}
    if arrays:
        yield keys, arrays
    for key, value in thing.items():
        if isinstance(key, str):
            yield from _found(value, is_array, (*keys, key))


def _has_norm(named):
    return any(name.rpartition(".")[2] in VARIANCES for name in named)


def _beside(thing, taken, is_array, keys=()):
    """The names of what is not in a state_dict that was taken."""
    for key, value in thing.items():
        place = (*keys, str(key))
        if keys in taken and isinstance(key, str) and is_array(value):
            continue
        if isinstance(value, Mapping) and any(t[: len(place)] == place for t in taken):
            yield from _beside(value, taken, is_array, place)
        else:
            yield ".".join(place)
