"""Every variant on X of one dtype in a layer of another, held to the spec.

`python tools/dtypes.py` prints all of it; test_dtypes.py tries a part.
"""

import functools
import itertools
import pathlib
import traceback

import numpy as np
import reference
from tolerances import TOLERANCE

import bn_from_scratch
from bn_from_scratch import backends, spec
from bn_from_scratch.case import difference, make_case

DTYPES = ("float16", "bfloat16", "float32", "float64")
LAYER_DTYPES = (*DTYPES, None)  # None: the framework's default
SHAPE, STEPS = (12, 5), 2
MASK = np.arange(12) % 5 > 1
SCALE, SHIFT = 1.1, -0.2
LIMITS = {"r_max": 1.2, "d_max": 0.3}
GHOST = {"ghost_size": 4}


def adjustment(*arguments):
    return SCALE, SHIFT


def halve(gamma, beta, mean, var):
    """It lets each of the four meet another."""
    return gamma / 2 + 0 * var, beta - 1 + 0 * mean, mean + 0 * beta, 4 * var


def adjusted(mean, var, gamma, beta, state):
    return mean, var, *spec.scale_and_shift(gamma, beta, SCALE, SHIFT)


def halved(mean, var, gamma, beta, state):
    return mean, 4 * var, gamma / 2, beta - 1


def normed(X, gamma, beta, state):
    return spec.layer_norm(X, gamma, beta), {}


def accumulated():
    return reference.accumulated(train(), 2)


renormed = reference.renormed(**LIMITS)
train = functools.partial(reference.layer_step, training=True)
own_averages = functools.partial(
    reference.keras_renorm_step, renorm_momentum=0.3, **LIMITS, r_min=1 / 1.2
)
# name: (classes, options, options of the call, the step of the spec in training)
VARIANTS = {
    "core": ([], {}, {}, train),
    "core, mask": ([], {}, {"mask": MASK}, lambda: train(mask=MASK)),
    "core, momentum=None": ([], {"momentum": None}, {}, lambda: train(momentum=None)),
    "core, unbiased": ([], {"correction": 1}, {}, lambda: train(correction=1)),
    "core, all of it": (
        [],
        {"momentum": None, "correction": 1},
        {"mask": MASK},
        lambda: train(momentum=None, correction=1, mask=MASK),
    ),
    "ghost": (["ghost"], GHOST, {}, lambda: reference.ghost_step(**GHOST)),
    "sync": (["sync"], {}, {}, train),
    "accumulate": (["accumulate"], {"steps": 2}, {}, accumulated),
    "transform": (
        ["transform"],
        {"transform": halve},
        {},
        lambda: train(operands=halved),
    ),
    "renorm": (["renorm"], LIMITS, {}, lambda: train(operands=renormed)),
    "renorm, mask": (
        ["renorm"],
        LIMITS,
        {"mask": MASK},
        lambda: train(operands=renormed, mask=MASK),
    ),
    "renorm, schedule": (
        ["renorm"],
        {},
        {},
        lambda: train(operands=reference.renormed(r_max=1, d_max=0)),
    ),
    "renorm, own averages": (
        ["renorm"],
        LIMITS | {"renorm_momentum": 0.3},
        {},
        own_averages,
    ),
    "ghost + renorm": (
        ["ghost", "renorm"],
        GHOST | LIMITS,
        {},
        lambda: reference.ghost_step(**GHOST, operands=renormed),
    ),
    "adjust": (
        ["adjust"],
        {"adjustment": adjustment},
        {},
        lambda: train(operands=adjusted),
    ),
    "mean only": (
        ["mean_only"],
        {},
        {},
        lambda: reference.lite_step(training=True, subtract=True),
    ),
    "var only": (
        ["var_only"],
        {},
        {},
        lambda: reference.lite_step(training=True, subtract=False),
    ),
    "fused": (["fused"], {}, {}, train),
    "accumulate + fused": (["accumulate", "fused"], {"steps": 2}, {}, accumulated),
    "freeze": (["freeze"], {}, {}, lambda: train(frozen="all")),
    "layer norm": (["LayerNorm"], {}, {}, lambda: normed),
}


def verdict(backend, variant, x_dtype, layer_dtype):
    """ "right", "refused: " and our words, or what is wrong."""
    names, options, call, step = VARIANTS[variant]
    X, dY, state = make_case(SHAPE)
    # Keras casts X to the dtype of the layer, and answers in that.
    y_dtype = (layer_dtype or "float32") if backend == "tensorflow" else x_dtype
    given = rounded(X, x_dtype)
    X, dY = rounded(given, y_dtype), rounded(dY, y_dtype)
    state = {k: v.astype("float32").astype("float64") for k, v in state.items()}
    state |= {"renorm_mean": np.zeros(SHAPE[1]), "renorm_std": np.ones(SHAPE[1])}
    try:
        bn = backends.load(backend, dtype="float64")
        layer = make(bn, names, layer_dtype, options)
        dtypes = x_dtype, y_dtype
        got = probe(backend, bn, layer, dtypes, given, dY, state, call)
    except Exception as error:
        return refused(error)
    want = reference.expected(step(), X, dY, state, STEPS)
    kept = "float64" if layer_dtype == "float64" else "float32"
    dtypes = {"Y": y_dtype, "dX": x_dtype}
    for name, value in got.items():
        if (name in ("dgamma", "dbeta") and "freeze" in names) or name not in want:
            continue
        dtype, value = dtypes.get(name, kept), np.asarray(value)
        if value.dtype != dtype:
            return f"WRONG: {name} is {value.dtype}"
        rounded_to = y_dtype if name == "dX" or y_dtype == "float64" else "float32"
        used = {kept, rounded_to, dtype}
        bound = max(TOLERANCE[v] for v in used)
        value = value.astype("float64")
        off = difference(value, want[name]) if np.any(want[name]) else np.max(value)
        if not off <= bound:
            return f"WRONG: {name} is off by {off:.1e}"
    return "right"


def make(bn, names, dtype, options):
    if names == ["LayerNorm"]:
        return bn.LayerNorm(SHAPE[1], 2, dtype=dtype)
    cls = bn.combine(*names) if names else bn.BatchNorm
    return cls(SHAPE[1], 2, dtype=dtype, **options)


def rounded(v, dtype):
    """float64 numbers that this dtype can hold."""
    import ml_dtypes

    dtype = ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype
    return v.astype(dtype).astype("float64")


def probe(backend, bn, layer, dtypes, X, dY, state, call):
    """`bn.probe`, in bfloat16 too, which NumPy lacks."""
    if backend == "torch":
        return probe_torch(layer, dtypes[0], X, dY, state, dict(call))
    import ml_dtypes

    own = [ml_dtypes.bfloat16 if v == "bfloat16" else v for v in dtypes]
    if backend == "mxnet" and "bfloat16" in dtypes:
        raise TypeError("MXNet's NumPy arrays do not know bfloat16")
    X, dY = X.astype(own[0]), dY.astype(own[1])
    known = state_names(backend, bn, layer, X)
    state = {k: v for k, v in state.items() if k in known}
    if backend != "tensorflow":
        keep = "float64" if known["gamma"] == np.float64 else "float32"
        state = {k: v.astype(keep) for k, v in state.items()}
    return bn.probe(layer, X, dY, training=True, steps=STEPS, state=state, **call)


def state_names(backend, bn, layer, X):
    """{name: dtype} of the layer's parameters and statistics."""
    if backend == "jax":
        import jax

        variables = layer.init(jax.random.key(0), jax.numpy.asarray(X), training=False)
        return {k: v.dtype for part in variables.values() for k, v in part.items()}
    if backend == "mxnet":
        return {k: np.dtype(p.dtype) for k, p in layer._reg_params.items()}
    layer.build(X.shape)
    return {v.name: v.dtype for v in layer.variables}


def probe_torch(layer, dtype, X, dY, state, call):
    import torch

    own = getattr(torch, dtype)
    leaf, cotangent = torch.tensor(X, dtype=own), torch.tensor(dY, dtype=own)
    call = {k: torch.as_tensor(v) for k, v in call.items()}
    values = dict(layer.named_parameters()) | dict(layer.named_buffers())
    with torch.no_grad():
        for name in state.keys() & values.keys():
            values[name].copy_(torch.tensor(state[name]))
    leaf.requires_grad_()
    for _ in range(STEPS):
        Y = layer(leaf, **call)
    wanted = {"X": leaf} | dict(layer.named_parameters())
    wanted = {k: v for k, v in wanted.items() if v.requires_grad}
    gradients = torch.autograd.grad(Y, list(wanted.values()), cotangent)
    found = {"Y": Y} | {f"d{k}": v for k, v in zip(wanted, gradients, strict=True)}
    found |= dict(layer.named_buffers())
    return {k: array_of(v.detach()) for k, v in found.items()}


def array_of(v):
    import ml_dtypes

    if str(v.dtype) == "torch.bfloat16":
        return v.float().numpy().astype(ml_dtypes.bfloat16)
    return v.numpy()


def refused(error):
    """A sentence of ours, or what is wrong."""
    ours = pathlib.Path(bn_from_scratch.__file__).parent, pathlib.Path(__file__)
    last = traceback.extract_tb(error.__traceback__)[-1].filename
    here = any(
        path == pathlib.Path(last) or path in pathlib.Path(last).parents
        for path in ours
    )
    if isinstance(error, (ValueError, TypeError)) and here:
        return f"refused: {error}"
    lines = str(error).strip().splitlines() or [""]
    return f"RAISES {type(error).__name__}: {lines[0]} {lines[-1]}"


def cells(names):
    """(backend, variant, dtype of X, dtype of the layer): all of them."""
    return itertools.product(names, VARIANTS, DTYPES, LAYER_DTYPES)
