"""What a layer accepts: the one place where settings and inputs are refused."""

import numbers
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn, TypeGuard, TypeVar

from bn_from_scratch.spec import Axis, kept_axes, values_per_channel

Sizes = int | tuple[int, ...] | None  # num_features; None: to be inferred
Shape = Iterable[int | None]  # of an array; None: not known yet, in a traced graph
Limit = float | Callable[[Any], Any] | None  # or a function of the number of updates
Size = TypeVar("Size", int, int | None)

STATISTICS = ("moving", "batch")
FROZEN = (None, "affine", "all")
DTYPES = ("float16", "bfloat16", "float32", "float64")
# As every framework writes one: torch.float32, <dtype: 'float32'>, float32.
DTYPE = re.compile(rf"\b({'|'.join(DTYPES)})\b(?=['>]*$)")


def check_layer(
    num_features: Sizes,
    num_dims: int | None,
    eps: float,
    momentum: float | None,
    axis: Axis,
    correction: int,
    statistics: str,
    frozen: str | None,
) -> None:
    """Raise TypeError or ValueError unless a layer can be built with these settings."""
    check_sizes(num_features, num_dims, axis)
    check_eps(eps)
    check_momentum("momentum", momentum)
    check_choice("correction", correction, (0, 1))
    check_choice("statistics", statistics, STATISTICS)
    check_choice("frozen", frozen, FROZEN)


def check_sizes(num_features: Sizes, num_dims: int | None, axis: Axis) -> None:
    """Raise unless the sizes are possible and as many as there are axes."""
    axes = axis if isinstance(axis, (tuple, list)) else [axis]
    for a in axes:
        if not isinstance(a, numbers.Integral):
            raise TypeError(f"axis must be an integer or several; got {axis!r}")
    if not axes:
        raise ValueError(f"axis must name at least one axis; got {axis!r}")
    check_integer("num_dims", num_dims, 2)
    if num_dims is not None:
        check_axis(axis, num_dims, f"X has {num_dims} axes")
    sizes = tuple_of(num_features)
    for size in sizes:
        check_integer("num_features", size, 1)
    if num_features is not None and len(sizes) != len(axes):
        raise ValueError(
            f"num_features must give a size for each axis of {axis}; got {num_features}"
        )


def check_eps(eps: float) -> None:
    if not eps > 0:
        raise ValueError(f"eps must be positive; got {eps}")


def check_dtype(name: str) -> None:
    """Raise TypeError unless parameters can have the dtype of this name."""
    if name not in DTYPES:
        raise TypeError(f"dtype must be one of {', '.join(DTYPES)}; got {name}")


def check_kind(name: str, v: Any, kind: Any, wanted: str) -> None:
    """Raise TypeError unless v is of this kind, a class or several."""
    if not isinstance(v, kind):
        given = f"{type(v).__module__.split('.')[0]}.{type(v).__name__}"
        given = given.removeprefix("builtins.")
        raise TypeError(f"{name} must be {wanted}; it is of type {given}")


def check_integer(name: str, value: int | None, least: int) -> None:
    """None passes: it is to be inferred."""
    if value is None:
        return
    if not isinstance(value, numbers.Integral):
        raise TypeError(f"{name} must be an integer; got {value!r}")
    if value < least:
        raise ValueError(f"{name} must be at least {least}; got {value}")


def check_momentum(name: str, value: float | None) -> None:
    """None passes: it has a meaning of its own."""
    if value is not None and not 0 <= value <= 1:
        raise ValueError(f"{name} must lie between 0 and 1; got {value}")


def check_choice(name: str, value: Any, choices: Sequence[Any]) -> None:
    if value not in choices:
        *most, last = map(repr, choices)
        raise ValueError(f"{name} must be {', '.join(most)} or {last}; got {value!r}")


def check_axis(axis: Axis, ndim: int, given: str) -> None:
    """Raise ValueError unless `axis` names different axes of an X with `ndim`."""
    axes = axis if isinstance(axis, (tuple, list)) else (axis,)
    for a in axes:
        if not -ndim <= a < ndim:
            raise ValueError(f"there is no axis {a}: {given}")
    if len(set(kept_axes(ndim, axis))) < len(axes):
        raise ValueError(f"axis {axis} names an axis twice: {given}")


def check_input(
    shape: Shape,
    dtype: Any,
    axis: Axis,
    num_features: Sizes,
    num_dims: int | None,
    training: bool,
) -> None:
    """Raise TypeError or ValueError unless X of this shape and dtype suits the layer.

    A size that is not known yet (None, in a traced graph) passes; so does any number of
    axes where `num_dims` is None, and any number of channels where `num_features` is.
    """
    shape = tuple(shape)
    if not DTYPE.search(str(dtype)):
        bits = " of 16 to 64 bits" if "float" in str(dtype) else ""
        raise TypeError(f"batch norm takes floating-point X{bits}; X has dtype {dtype}")
    if len(shape) != (num_dims or max(len(shape), 2)):
        raise ValueError(
            f"this layer normalizes X with {num_dims or 'at least 2'} axes; "
            f"X has shape {shape}"
        )
    check_axis(axis, len(shape), f"X has shape {shape}")
    check_features(shape, axis, num_features)
    if training and _has_one_value(shape, axis):
        raise ValueError(
            f"training needs more than one value per channel; X has shape {shape}"
        )


def _has_one_value(shape: tuple[int | None, ...], axis: Axis) -> bool:
    """Has each channel one value?  Not that we know, where a size is not known yet."""
    known = [size for size in shape if size is not None]
    return len(known) == len(shape) and values_per_channel(known, axis) == 1


def refuse_overflow(dtype: str, largest: float) -> NoReturn:
    raise ValueError(
        "the squares of a channel, less its mean, must add up within "
        f"{dtype.removeprefix('torch.')}; X reaches {largest:.1e}"
    )


def check_features(
    shape: tuple[int | None, ...], axis: Axis, num_features: Sizes
) -> None:
    """Raise ValueError unless X has `num_features` channels on `axis`."""
    kept = kept_axes(len(shape), axis)
    sizes = tuple(shape[a] for a in kept)
    if num_features is None or _agree(sizes, tuple_of(num_features)):
        return
    if len(kept) == 1:
        expected = f"{tuple_of(num_features)[0]} channels on axis {kept[0]}"
    else:
        expected = f"sizes {tuple_of(num_features)} on axes {kept}"
    raise ValueError(f"expected {expected}; X has shape {shape}")


def check_known(shape: Shape, axis: Axis) -> None:
    """Raise ValueError unless there is a size for each channel axis."""
    shape = tuple(shape)
    if None in [shape[a] for a in kept_axes(len(shape), axis)]:
        raise ValueError(
            f"the layer must know its channels on axis {axis}; X has shape {shape}"
        )


def check_mask(mask_shape: Shape, shape: Shape, axis: Axis) -> tuple[int, ...]:
    """The shape in which a mask of valid positions broadcasts against X.

    A mask has one value per position: X's shape without `axis`, or with 1 there.
    """
    shape, mask_shape = tuple(shape), tuple(mask_shape)
    kept = kept_axes(len(shape), axis)
    full = tuple(1 if a in kept else size for a, size in enumerate(shape))
    short = tuple(size for a, size in enumerate(shape) if a not in kept)
    for wanted in (full, short):
        if _agree(mask_shape, wanted):
            return tuple(-1 if size is None else size for size in full)
    raise ValueError(
        f"the mask must have shape {short} or {full}; it has shape {mask_shape}"
    )


def _agree(shape: tuple[int | None, ...], wanted: tuple[int | None, ...]) -> bool:
    """The same sizes, as far as they are known?"""
    if len(shape) != len(wanted):
        return False
    pairs = zip(shape, wanted, strict=True)
    return all(None in pair or pair[0] == pair[1] for pair in pairs)


def tuple_of(num_features: Size | tuple[Size, ...]) -> tuple[Size, ...]:
    """The shape of the parameters.  5 -> (5,)."""
    many = isinstance(num_features, (tuple, list))
    return tuple(num_features) if many else (num_features,)


# --- Variants ------------------------------------------------------------------------


def check_ghost(ghost_size: int, order: str, variance: str) -> None:
    """Raise TypeError or ValueError unless a GhostBatchNorm can have these settings."""
    check_integer("ghost_size", ghost_size, 1)
    check_choice("order", order, ("contiguous", "strided"))
    check_choice("variance", variance, ("total", "mean"))


def check_ghost_input(shape: Shape, axis: Axis, ghost_size: int, mask: Any) -> None:
    """Raise ValueError unless a batch of this shape falls into groups."""
    shape = tuple(shape)
    check_no_mask("ghost", mask)
    if 0 in kept_axes(len(shape), axis):
        raise ValueError(f"ghost batches divide axis 0; the layer keeps axis {axis}")
    if shape[0] is None:
        return
    if shape[0] % ghost_size:
        raise ValueError(
            f"ghost batches of {ghost_size} must divide the batch; X has shape {shape}"
        )
    group = (ghost_size, *shape[1:])
    if shape[0] and _has_one_value(group, axis):
        raise ValueError(
            "training needs more than one value per channel; "
            f"a ghost batch has shape {group}"
        )


def check_recomputation(follows_averages: bool) -> None:
    """Raise ValueError if the output depends on what the first run has moved."""
    if follows_averages:
        raise ValueError(
            "a recomputation of renorm must see the averages of its first run, which "
            "moved them: give update=False, or keep it out of tf.recompute_grad"
        )


def check_no_mask(variant: str, mask: Any) -> None:
    if mask is not None:
        raise ValueError(f"{variant} batch norm takes no mask")


def renorm_limits(
    r_max: Limit, d_max: Limit, r_min: Limit, clipping: dict[str, float] | None
) -> tuple[Limit, Limit, Limit]:
    """r_max, d_max, r_min, from Keras's dictionary of them if there is one."""
    if clipping is not None:
        if any(limit is not None for limit in (r_max, d_max, r_min)):
            raise ValueError("give renorm_clipping or r_max, d_max, r_min; not both")
        if unknown := sorted(set(clipping) - {"rmin", "rmax", "dmax"}):
            raise ValueError(
                f"renorm_clipping may have rmin, rmax, dmax; got {', '.join(unknown)}"
            )
        infinite = float("inf")  # Keras does not clip what is not named
        r_max = clipping.get("rmax", infinite)
        d_max, r_min = clipping.get("dmax", infinite), clipping.get("rmin", 0.0)
    for name, limit, least in (("r_max", r_max, 1), ("d_max", d_max, 0)):
        if _is_number(limit) and not limit >= least:
            raise ValueError(f"{name} must be at least {least}; got {limit}")
    if _is_number(r_min) and not 0 <= r_min <= 1:
        raise ValueError(f"r_min must lie between 0 and 1; got {r_min}")
    return r_max, d_max, r_min


def _is_number(limit: Limit) -> TypeGuard[float]:
    return isinstance(limit, numbers.Real)


def check_layer_norm(
    num_features: Sizes,
    num_dims: int | None,
    eps: float,
    axis: Axis | None,
    feature_axis: Axis,
) -> None:
    """Raise TypeError or ValueError unless a LayerNorm can have these settings."""
    check_sizes(num_features, num_dims, feature_axis)
    check_eps(eps)
    if axis is not None and num_dims is not None:
        check_axis(axis, num_dims, f"X has {num_dims} axes")
