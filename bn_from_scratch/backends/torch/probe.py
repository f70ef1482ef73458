"""Any batch norm layer of PyTorch: NumPy in, NumPy out."""

import torch

from bn_from_scratch.backends.torch.builtin import NAMES


def probe(layer, X, dY, *, training, steps=1, state=None):
    """Feed X [N, C, *] and the cotangent dY forward and backward, `steps` times over.

    Returns NumPy arrays: Y, dX [N, C, *], dgamma, dbeta [C] of the last pass and the
    moving_mean, moving_var [C] it leaves.  `state` (gamma, beta, moving_mean,
    moving_var) is written into the layer first.
    """
    names = {ours: ours if hasattr(layer, ours) else NAMES[ours] for ours in NAMES}
    values = {ours: getattr(layer, theirs) for ours, theirs in names.items()}
    device = values["gamma"].device
    with torch.no_grad():
        for name, value in (state or {}).items():
            values[name].copy_(torch.as_tensor(value))
    was_training = layer.training
    layer.train(training)
    dY = torch.as_tensor(dY, device=device)
    for _ in range(steps):
        leaf = torch.as_tensor(X, device=device).requires_grad_()
        Y = layer(leaf)
        wanted = leaf, values["gamma"], values["beta"]
        dX, dgamma, dbeta = torch.autograd.grad(Y, wanted, dY)
    layer.train(was_training)
    result = {"Y": Y, "dX": dX, "dgamma": dgamma, "dbeta": dbeta}
    result |= {name: values[name] for name in ("moving_mean", "moving_var")}
    return {name: v.detach().cpu().numpy().copy() for name, v in result.items()}
