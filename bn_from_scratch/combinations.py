"""Which variants of batch norm combine, and why the others do not.

A variant names itself (`variant = "ghost"`); a class under two of them combines them.
`order` is the order of inheritance: the first works outermost.
"""

from collections.abc import Iterable, Sequence
from typing import Any

ORDER = (
    "ghost",
    "sync",
    "accumulate",
    "transform",
    "renorm",
    "adjust",
    "mean_only",
    "var_only",
    "fused",
    "freeze",
)

_TWO_PARTS = "r and d correct both parts, of which it keeps one"
_ONE_KERNEL = "the fused kernel holds the core's statistics and normalization"
_NO_BATCH = "it uses no statistics of the batch"

# Every pair that does not combine, with the reason.  All others do.
REFUSED = {
    ("ghost", "sync"): "one takes part of the batch, the other more than the batch",
    ("ghost", "adjust"): "an adjustment belongs to the whole batch",
    ("renorm", "mean_only"): _TWO_PARTS,
    ("renorm", "var_only"): _TWO_PARTS,
    ("mean_only", "var_only"): "together they are batch norm",
}
REFUSED |= {(name, "fused"): _ONE_KERNEL for name in ORDER[:8] if name != "accumulate"}
REFUSED |= {(name, "freeze"): _NO_BATCH for name in ORDER[:9]}


def refusal(first: str, second: str) -> str | None:
    """The reason why two variants do not combine, or None."""
    first, second = sorted((first, second), key=ORDER.index)
    return REFUSED.get((first, second))


def in_order(names: Sequence[str]) -> list[str]:
    """Names of variants in the order of inheritance; ValueError if they clash.

    >>> in_order(["renorm", "ghost"])
    ['ghost', 'renorm']
    """
    for name in names:
        if name not in ORDER:
            raise ValueError(f"variant must be one of {', '.join(ORDER)}; got {name!r}")
    names = sorted(set(names), key=ORDER.index)
    for i, first in enumerate(names):
        for second in names[i + 1 :]:
            if reason := refusal(first, second):
                raise ValueError(f"{first} and {second} do not combine: {reason}")
    return names


def combine(variants: Iterable[type[Any]], names: Sequence[str]) -> type[Any]:
    """The class under those of the classes `variants` that have these names."""
    known = {cls.variant: cls for cls in variants}
    classes = tuple(known[name] for name in in_order(names))
    return type("".join(cls.__name__ for cls in classes), classes, {})


def check_class(cls: type) -> None:
    """Raise ValueError for a class under variants that do not combine."""
    found = [vars(base)["variant"] for base in cls.__mro__ if "variant" in vars(base)]
    in_order(found)
