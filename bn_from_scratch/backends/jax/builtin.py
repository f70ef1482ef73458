"""Flax's own batch norm, as a setting of the spec."""

from flax import linen as nn

from bn_from_scratch import lenet
from bn_from_scratch.spec import EPS, MOMENTUM

NAMES = {  # ours -> theirs
    "gamma": "scale",
    "beta": "bias",
    "moving_mean": "mean",
    "moving_var": "var",
}


def builtin(
    num_features,
    num_dims,
    eps=EPS,
    momentum=MOMENTUM,
    dtype="float32",
    **kwargs,
):
    """The framework's layer with the spec's eps and momentum.  X [N, *, C] -> same.

    Flax infers both sizes.  Its default, `use_fast_variance=True`, takes the variance
    in one pass as E[X^2] - E[X]^2, which cancels where the mean is large.
    """
    return nn.BatchNorm(
        epsilon=eps,
        momentum=1 - momentum,
        param_dtype=dtype,
        force_float32_reductions=dtype != "float64",
        **({"use_fast_variance": False} | kwargs),
    )


def builtin_setting(momentum=MOMENTUM):
    """Arguments at which `spec.batch_norm` is this layer, in the last digit."""
    return {"momentum": momentum}


def builtin_translation(eps=EPS, momentum=MOMENTUM):
    """What had to be translated: our word -> theirs."""
    return {
        "eps": f"epsilon={eps:g}",
        "momentum": f"momentum={1 - momentum:g}: the weight of the old value",
        "var": "use_fast_variance=False: two passes, not E[X^2] - E[X]^2",
        "float64": "force_float32_reductions=False, or batch_stats are float32",
    }


def call(layer, X, training, **options):
    """Call our layer, which takes `training`, or Flax's, which take other words."""
    if isinstance(layer, nn.BatchNorm):
        return layer(X, use_running_average=not training, **options)
    if isinstance(layer, nn.LayerNorm):
        return layer(X)
    return layer(X, training, **options)


def exchange_names(variables):
    """Where each parameter and statistic is: {"bn1.gamma": ("params", "bn1", "scale")}.

    The layers come in the order of the network; a tree of JAX sorts them by name.
    """
    named = {}
    for layer in variables["params"] | variables.get("batch_stats", {}):
        native = "scale" in variables["params"].get(layer, {})
        names = NAMES if native else {"weight": "kernel"}
        theirs = {v: k for k, v in names.items()}
        for kind in ("params", "batch_stats"):
            for v in variables.get(kind, {}).get(layer, {}):
                named[f"{layer}.{theirs.get(v, v)}"] = kind, layer, v
    return dict(sorted(named.items(), key=lambda item: lenet.position(item[0])))
