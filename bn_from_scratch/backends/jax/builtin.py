"""Flax's own batch norm, as a setting of the spec."""

from typing import Any

from flax import linen as nn
from flax.traverse_util import flatten_dict
from flax.typing import VariableDict
from jax import Array

from bn_from_scratch import lenet
from bn_from_scratch.backends.jax.batch_norm import CHANNEL_AXIS
from bn_from_scratch.spec import EPS, MOMENTUM, Axis

NAMES = {  # ours -> theirs
    "gamma": "scale",
    "beta": "bias",
    "moving_mean": "mean",
    "moving_var": "var",
}


def builtin(
    num_features: int | tuple[int, ...] | None,
    num_dims: int | None,
    eps: float = EPS,
    momentum: float | None = MOMENTUM,
    dtype: str = "float32",
    *,
    axis: Axis = CHANNEL_AXIS,
    center: bool = True,
    scale: bool = True,
    correction: int = 0,
    statistics: str = "moving",
    frozen: str | None = None,
    **kwargs: Any,
) -> nn.BatchNorm:
    """The framework's layer with the spec's eps and momentum.  X [N, *, C] -> same.

    Flax infers both sizes.  Its default, `use_fast_variance=True`, takes the variance
    in one pass as E[X^2] - E[X]^2, which cancels where the mean is large.  It stores
    the biased variance, whatever `correction` says; any other setting that it lacks
    raises ValueError.
    """
    if momentum is None:
        raise ValueError("Flax's layer needs a momentum; got None")
    if statistics != "moving":
        raise ValueError(
            f"Flax's layer predicts by moving statistics; got statistics={statistics!r}"
        )
    if frozen is not None:
        raise ValueError(f"Flax's layer cannot be frozen; got frozen={frozen!r}")
    own: dict[str, Any] = {"axis": axis, "use_bias": center, "use_scale": scale}
    own["use_fast_variance"] = False
    return nn.BatchNorm(
        epsilon=eps,
        momentum=1 - momentum,
        param_dtype=dtype,
        force_float32_reductions=dtype != "float64",
        **(own | dict(map(_translated, kwargs.items()))),
    )


def _translated(argument: tuple[str, Any]) -> tuple[str, Any]:
    """One of our other arguments as Flax takes it."""
    name, value = argument
    if not name.endswith("_initializer"):
        return argument
    name = NAMES.get(name.removesuffix("_initializer"), name) + "_init"
    return name, value if callable(value) else nn.initializers.constant(value)


def builtin_setting(momentum: float = MOMENTUM) -> dict[str, float]:
    """Arguments at which `spec.batch_norm` is this layer, in the last digit."""
    return {"momentum": momentum}


def builtin_translation(eps: float = EPS, momentum: float = MOMENTUM) -> dict[str, str]:
    """What had to be translated: our word -> theirs."""
    return {
        "eps": f"epsilon={eps:g}",
        "momentum": f"momentum={1 - momentum:g}: the weight of the old value",
        "var": "use_fast_variance=False: two passes, not E[X^2] - E[X]^2",
        "float64": "force_float32_reductions=False, or batch_stats are float32",
    }


def call(layer: nn.Module, X: Array, training: bool, **options: Any) -> Array:
    """Call our layer, which takes `training`, or Flax's, which take other words."""
    if isinstance(layer, nn.BatchNorm):
        return layer(X, use_running_average=not training, **options)
    if isinstance(layer, nn.LayerNorm):
        return layer(X)
    return layer(X, training, **options)


def exchange_names(variables: VariableDict) -> dict[str, tuple[str, ...]]:
    """Where each parameter and statistic is: {"bn1.gamma": ("params", "bn1", "scale")}.

    The layers come in the order of the network; a tree of JAX sorts them by name.  The
    layers of a nested module have its name before theirs: "block1.bn1.gamma".
    """
    places: list[tuple[str, ...]] = [
        (kind, *path)
        for kind in ("params", "batch_stats")
        for path in flatten_dict(variables.get(kind, {}))
    ]
    layers = list(dict.fromkeys(place[1:-1] for place in places))
    native = {place[1:-1] for place in places if place[-1] in ("scale", "mean")}
    named = {}
    for place in sorted(places, key=lambda place: layers.index(place[1:-1])):
        _, *layer, v = place
        names = NAMES if tuple(layer) in native else {"weight": "kernel"}
        theirs = {v: k for k, v in names.items()}
        named[".".join((*layer, theirs.get(v, v)))] = place
    return dict(sorted(named.items(), key=lambda item: lenet.position(item[0])))
