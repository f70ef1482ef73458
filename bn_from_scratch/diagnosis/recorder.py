"""The record of a layer of any framework: a copy of it goes through the protocol."""

import copy
from typing import Any

import numpy as np

from bn_from_scratch import backends, spec
from bn_from_scratch.diagnosis import protocol
from bn_from_scratch.diagnosis.layers import describe, is_batch_norm, sizes
from bn_from_scratch.diagnosis.recording import SETTINGS, STATE, Record

# Where the backward may move what the forward left; elsewhere it is a pure function.
HOOKED = {"torch": "remove", "mxnet": "detach"}  # and how a hook is taken off again
NUM_FEATURES, NUM_DIMS = 6, 4  # of a layer that takes any
COUNTS = ("num_batches_tracked", "moving_count")  # momentum=None begins anew
MOVING = ("moving_mean", "moving_var")


def record(
    layer: Any,
    *,
    num_features: int | None = None,
    num_dims: int | None = None,
    dtype: str = "float32",
    seed: int = 0,
) -> Record:
    """The record of a layer of any framework, which itself is left as it is.

    A copy goes through `protocol.calls`, from `protocol.start`.  The sizes are those of
    the layer; one that takes any gets 6 channels and 4 axes.
    """
    if not is_batch_norm(layer):
        kind = type(layer).__name__
        raise TypeError(f"what is recorded must be a batch norm; got {kind}")
    own = sizes(layer)
    C, dims = num_features or own[0] or NUM_FEATURES, num_dims or own[1] or NUM_DIMS
    described = describe(layer)
    settings = {k: described.settings[k] for k in SETTINGS}
    found = {k: np.array(v, np.float64) for k, v in settings.items() if v is not None}
    found |= {f"stored.{k}": np.array(v) for k, v in described.state.items()}
    start = protocol.start(C, dtype, seed)
    copied = _Copy(layer, dims, start)
    for event, given in protocol.calls(C, dims, dtype, seed):
        if event == "half":
            copied = _Copy(layer, dims, start)
        answer = copied.answer(event, **given)
        if answer is not None:
            given = {k: v for k, v in given.items() if k != "dY" or "dX" in answer}
            found |= {f"{event}.{k}": v for k, v in (given | answer).items()}
    return found | start


class _Copy:
    """A copy of a layer, which goes from call to call."""

    def __init__(self, layer, num_dims, start):
        self.framework = backends.framework_of(layer)
        counts = [k for k in COUNTS if getattr(layer, k, None) is not None]
        self.state = start | {k: np.zeros((), np.int64) for k in counts}
        self.backend = backends.load(self.framework)
        self.layer = _copied(layer, self.framework)
        last = -1 if self.framework in ("tensorflow", "jax") else 1
        (self.axis,) = spec.kept_axes(num_dims, getattr(layer, "axis", last))

    def answer(self, event, X, dY=None):
        """Y, dX, dgamma, dbeta and the moving averages of one call, by name.

        None where a layer does not take 16 bits.
        """
        dY = np.zeros_like(X) if dY is None else dY
        if event != "half":
            return self._call(event, X, dY)
        for dtype in ("float16", "float32"):  # of Y: some layers answer in float32
            try:
                return self._call(event, X, dY.astype(dtype))
            except Exception:  # whatever a framework raises
                continue
        return None

    def _call(self, event, X, dY):
        forward = {}
        hook = self._watch(forward)
        given = (np.ascontiguousarray(np.moveaxis(v, 1, self.axis)) for v in (X, dY))
        lacking = _lacking_of(self.layer)
        try:
            found = self.backend.probe(
                self.layer,
                *given,
                training=event != "prediction",
                state={k: v for k, v in self.state.items() if k not in lacking},
                native=True,
            )
        finally:
            if hook is not None:
                getattr(hook, HOOKED[self.framework])()
        images = {k: np.moveaxis(found.pop(k), self.axis, 1) for k in ("Y", "dX")}
        gradients = {k: found.pop(k) for k in ("dgamma", "dbeta") if k in found}
        self.state = self.state | found
        moving = {k: found[k] for k in MOVING if k in found}
        if event == "prediction":
            return {"Y": images["Y"]} | moving
        backward = {f"backward_{k}": v for k, v in moving.items()}
        return images | gradients | moving | forward | backward

    def _watch(self, found):
        """Put the moving averages as the forward leaves them into a dict."""

        def keep(layer, given, answer):
            state = describe(layer).state
            found.update({k: v for k, v in state.items() if k in MOVING})

        if self.framework in HOOKED:
            return self.layer.register_forward_hook(keep)
        return None


def _lacking_of(layer):
    """What a layer does not have of gamma, beta and the moving averages."""
    settings = describe(layer).settings
    has = dict.fromkeys(MOVING, settings["statistics"] == "moving")
    has |= {"gamma": settings["scale"], "beta": settings["center"]}
    return [name for name in STATE if not has[name]]


def _copied(layer, framework):
    if framework == "jax":
        return layer.clone(parent=None)  # it holds no state
    if framework == "tensorflow":
        return backends.part(framework, "models.copying").cloned(layer)
    copied = copy.deepcopy(layer)
    if framework == "mxnet":
        for parameter in copied._reg_params.values():
            if parameter._data is not None and parameter.grad_req != "null":
                parameter._init_grad()  # or its gradient stays that of the original
    return copied
