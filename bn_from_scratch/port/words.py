"""The frameworks' words for a batch norm, and ours.

The names repeat NAMES of the backends' `builtin.py`: those can be read only where the
framework is installed, and a proof that used this table on both sides would prove
nothing.  The proof uses the backends' own.
"""

from decimal import Decimal

from bn_from_scratch.port.content import EXCHANGE, OURS, Norm
from bn_from_scratch.spec import EPS, MOMENTUM

TITLES = {
    "torch": "PyTorch",
    "tensorflow": "Keras",
    "jax": "Flax",
    "mxnet": "Gluon",
    EXCHANGE: "the project's own names",
}
NAMES: dict[str, tuple[str, ...]] = {  # in the order of OURS
    "torch": ("weight", "bias", "running_mean", "running_var"),
    "tensorflow": ("gamma", "beta", "moving_mean", "moving_variance"),
    "jax": ("scale", "bias", "mean", "var"),
    "mxnet": ("gamma", "beta", "running_mean", "running_var"),
    EXCHANGE: OURS,
}
DEFAULTS = {  # eps and momentum of a layer made without arguments, in our words
    "torch": (1e-5, 0.1),
    "tensorflow": (1e-3, 0.01),
    "jax": (1e-5, 0.01),
    "mxnet": (1e-5, 0.1),
    EXCHANGE: (EPS, MOMENTUM),
}
CHANNELS_LAST = ("tensorflow", "jax")


def names(framework: str, scratch: bool) -> dict[str, str]:
    """Our name -> that of the framework's own layer, or of our layer there."""
    return dict(zip(OURS, OURS if scratch else NAMES[framework], strict=True))


def complement(momentum: float) -> float:
    """The weight of the new value from that of the old one, or back.  0.9 -> 0.1

    In decimals, since in binary 1 - 0.9 is 0.09999999999999998.
    """
    return float(1 - Decimal(repr(float(momentum))))


def settings(framework: str, norm: Norm) -> str:
    """The arguments that make such a layer, as text in the words of its framework."""
    eps, momentum = norm.numbers()
    if norm.scratch or framework == EXCHANGE:
        more = f", correction={norm.correction}" if norm.correction else ""
        return f"BatchNorm(eps={eps:g}, momentum={momentum:g}{more})"
    if framework == "torch":
        return f"BatchNorm*d(eps={eps:g}, momentum={momentum:g})"
    layer = "BatchNormalization" if framework == "tensorflow" else "BatchNorm"
    return f"{layer}(epsilon={eps:g}, momentum={complement(momentum):g})"


def correction(framework: str, norm: Norm) -> int:
    """1 where the stored variance is the unbiased one."""
    if norm.correction is not None:
        return norm.correction
    return int(framework == "torch" and not norm.scratch)
