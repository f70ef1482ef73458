"""Any batch norm layer of Gluon: NumPy in, NumPy out."""

from mxnet import autograd, np

from bn_from_scratch.backends.mxnet.builtin import NAMES


def probe(layer, X, dY, *, training, steps=1, state=None):
    """Feed X [N, C, *] and the cotangent dY forward and backward, `steps` times over.

    Returns NumPy arrays: Y, dX [N, C, *], dgamma, dbeta [C] of the last pass and the
    moving_mean, moving_var [C] it leaves.  `state` (gamma, beta, moving_mean,
    moving_var) is written into the layer first.
    """
    names = {ours: ours if hasattr(layer, ours) else NAMES[ours] for ours in NAMES}
    values = {ours: getattr(layer, theirs) for ours, theirs in names.items()}
    if values["gamma"]._data is None:
        layer.initialize()
    for name, value in (state or {}).items():
        values[name].set_data(np.array(value, dtype=value.dtype))
    X, dY = (np.array(v, dtype=v.dtype) for v in (X, dY))
    for _ in range(steps):
        X.attach_grad()
        with autograd.record(train_mode=training):
            Y = layer(X)
        Y.backward(dY, train_mode=training)  # its own default is True
    result = {"Y": Y, "dX": X.grad}
    result |= {"dgamma": values["gamma"].grad(), "dbeta": values["beta"].grad()}
    result |= {name: values[name].data() for name in ("moving_mean", "moving_var")}
    return {name: v.asnumpy() for name, v in result.items()}
