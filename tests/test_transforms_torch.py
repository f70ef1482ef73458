"""PyTorch's transforms and graphs: where the plain layer works, every layer does."""

import copy

import pytest
from conftest import load_or_skip

bn = load_or_skip("torch")
torch = pytest.importorskip("torch")
from torch import func, nn  # noqa: E402
from torch.autograd import forward_ad  # noqa: E402

from bn_from_scratch.backends.torch.variants import fused  # noqa: E402

LAYERS = {
    "BatchNorm": (bn.BatchNorm, {}),
    "all batches": (bn.BatchNorm, {"momentum": None, "correction": 1}),
    "by the batch": (bn.BatchNorm, {"statistics": "batch"}),
    "ghost": (bn.GhostBatchNorm, {"ghost_size": 2}),
    "renorm": (bn.BatchRenorm, {"r_max": 1.2, "d_max": 0.3, "renorm_momentum": 0.1}),
    "adjust": (bn.AdjustedBatchNorm, {"adjustment": (1.5, 0.5)}),
    "sync": (bn.SyncBatchNorm, {}),
    "accumulate": (bn.AccumBatchNorm, {"steps": 2}),
    "freeze": (bn.FrozenBatchNorm, {}),
    "transform": (bn.TransformedBatchNorm, {"transform": bn.fake_quantize}),
    "fused": (bn.FusedBatchNorm, {}),
    "accumulate + fused": (bn.combine("accumulate", "fused"), {"steps": 2}),
    "mean only": (bn.MeanOnlyBatchNorm, {}),
    "var only": (bn.VarOnlyBatchNorm, {}),
    "layer norm": (bn.LayerNorm, {}),
}
each_layer = pytest.mark.parametrize("name", LAYERS)
generator = torch.Generator().manual_seed(0)


def normal(*shape):
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


def make(name, **options):
    cls, settings = LAYERS[name]
    return cls(4, **settings, **options)


# --- The fused layer goes back to the core -------------------------------------------

X, DX, BATCHES, W = normal(6, 4), normal(6, 4), normal(3, 6, 4), normal(6, 4)


def loss(layer, X, **parameters):
    Y = func.functional_call(layer, parameters, (X,), {"update": False})
    return (Y**3 * W).sum()


def second_derivative(layer):
    """A penalty of the gradient (WGAN-GP), to X and to gamma."""
    leaf = X.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(layer, leaf), leaf, create_graph=True)
    penalty = (gradient.norm(dim=1) - 1).square().sum()
    return torch.autograd.grad(penalty, (leaf, layer.gamma))


def third_derivative(layer):
    leaf = X.clone().requires_grad_()
    value = loss(layer, leaf)
    for _ in range(3):
        (gradient,) = torch.autograd.grad(value, leaf, create_graph=True)
        value = (gradient**2).sum()
    return (gradient,)


def gamma_made_of_X(layer):
    leaf = X.clone().requires_grad_()
    value = loss(layer, leaf, gamma=leaf.mean(0))
    (gradient,) = torch.autograd.grad(value, leaf, create_graph=True)
    return torch.autograd.grad((gradient**2).sum(), leaf)


def forward_mode(layer):
    with forward_ad.dual_level():
        value = loss(layer, forward_ad.make_dual(X, DX))
        return (forward_ad.unpack_dual(value).tangent,)


def forward_mode_of_gamma(layer):
    with forward_ad.dual_level():
        gamma = forward_ad.make_dual(layer.gamma.detach(), DX[0])
        return (forward_ad.unpack_dual(loss(layer, X, gamma=gamma)).tangent,)


def many_cotangents(layer):
    leaf = X.clone().requires_grad_()
    Y = layer(leaf, update=False)
    return torch.autograd.grad(Y, leaf, BATCHES, is_grads_batched=True)


def of_parameters(layer):
    parameters = dict(layer.named_parameters())
    return tuple(func.grad(lambda p: loss(layer, X, **p))(parameters).values())


TRANSFORMS = {
    "grad": lambda layer: (func.grad(lambda X: loss(layer, X))(X),),
    "grad of parameters": of_parameters,
    "vmap": lambda layer: (func.vmap(lambda X: layer(X, update=False))(BATCHES),),
    "vmap of grad": lambda layer: (
        func.vmap(func.grad(lambda X: loss(layer, X)))(BATCHES),
    ),
    "jvp": lambda layer: func.jvp(lambda X: layer(X, update=False), (X,), (DX,)),
    "vjp": lambda layer: func.vjp(lambda X: layer(X, update=False), X)[1](DX),
    "hessian": lambda layer: (func.hessian(lambda X: loss(layer, X))(X),),
    "second derivative": second_derivative,
    "third derivative": third_derivative,
    "gamma made of X": gamma_made_of_X,
    "forward mode": forward_mode,
    "forward mode of gamma": forward_mode_of_gamma,
    "many cotangents": many_cotangents,
    "a mask": lambda layer: (layer(X, mask=torch.arange(6) < 4),),
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_fused_goes_back_to_the_core(name):
    ours, core = (cls(4, dtype="float64") for cls in (bn.FusedBatchNorm, bn.BatchNorm))
    with torch.no_grad():
        for layer in (ours, core):
            layer.gamma.copy_(torch.tensor([0.5, 1.0, 2.0, -1.0]))
    got, want = (TRANSFORMS[name](layer) for layer in (ours, core))
    assert len(got) == len(want)
    for v, other in zip(got, want, strict=True):
        torch.testing.assert_close(v, other, rtol=1e-12, atol=1e-12)
    for v, other in zip(ours.buffers(), core.buffers(), strict=True):
        torch.testing.assert_close(v, other, rtol=1e-12, atol=1e-12)


def test_a_plain_gradient_does_not(monkeypatch):
    def no_core(*args):
        raise AssertionError("the core was called")

    monkeypatch.setattr(fused, "core", no_core)
    leaf = X.clone().requires_grad_()
    layer = bn.FusedBatchNorm(4, dtype="float64")
    layer(leaf).pow(2).sum().backward()
    with pytest.raises(AssertionError, match="the core was called"):
        second_derivative(layer)


# --- Graphs --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["BatchNorm", "all batches", "ghost", "renorm", "accumulate + fused"]
)
def test_an_exported_layer_trains_on_batches_of_any_size(name):
    layer = make(name, dtype="float64")
    eager, dynamic = copy.deepcopy(layer), torch.export.Dim.DYNAMIC
    program = torch.export.export(layer, (X,), dynamic_shapes={"X": {0: dynamic}})
    exported = program.module()
    for rows in (normal(10, 4), normal(8, 4)):
        torch.testing.assert_close(exported(rows), eager(rows), rtol=1e-12, atol=1e-12)
    got = dict(exported.named_buffers())
    for key, want in eager.named_buffers():
        torch.testing.assert_close(got[key], want, rtol=1e-12, atol=1e-12)


def test_an_exported_layer_predicts_by_the_batch():
    layer = make("by the batch", dtype="float64").eval()
    dynamic = {"X": {0: torch.export.Dim.DYNAMIC}}
    exported = torch.export.export(layer, (X,), dynamic_shapes=dynamic).module()
    rows = normal(10, 4)
    torch.testing.assert_close(exported(rows), layer(rows), rtol=1e-12, atol=1e-12)


class Model(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(4, 4, dtype=torch.float64), layer)

    def forward(self, X, **options):
        return self.inner(X).relu()


@each_layer
def test_fx_keeps_a_layer_whole(name):
    model = Model(make(name, dtype="float64"))
    traced = torch.fx.symbolic_trace(copy.deepcopy(model))
    targets = [node.target for node in traced.graph.nodes if node.op == "call_module"]
    assert targets == ["inner.0", "inner.1"]
    for rows in (normal(8, 4), normal(6, 4)):
        torch.testing.assert_close(traced(rows), model(rows))
    torch.testing.assert_close(traced.eval()(X), model.eval()(X))


def test_fx_hands_the_mask_on():
    class Masked(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = bn.BatchNorm(4, dtype="float64")

        def forward(self, X, mask):
            return self.norm(X, mask, update=False)

    model, mask = Masked(), torch.arange(6) < 4
    traced = torch.fx.symbolic_trace(model)
    torch.testing.assert_close(traced(X, mask), model(X, mask))
    assert not model.norm.moving_mean.any()


def test_fx_wants_a_model():
    with pytest.raises(torch.fx.proxy.TraceError) as raised:
        torch.fx.symbolic_trace(bn.BatchNorm(4))
    assert str(raised.value) == (
        "torch.fx traces a model, in which a layer is a node; BatchNorm was given alone"
    )


@each_layer
def test_script_is_refused(name):
    model = Model(make(name))
    with pytest.raises(TypeError) as raised:
        torch.jit.script(model)
    assert str(raised.value) == (
        "torch.jit.script compiles no layer of ours; torch.export takes it; "
        f"got {type(model.inner[1]).__name__}"
    )
