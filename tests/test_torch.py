"""What only PyTorch has: modes, buffers, state_dict, memory order, torch.compile."""

import copy

import numpy as np
import pytest
from conftest import load_or_skip
from tolerances import TOLERANCE

from bn_from_scratch import spec

bn = load_or_skip("torch")
torch = pytest.importorskip("torch")


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def layer_after_a_batch():
    layer = bn.BatchNorm(5, 2)
    layer(torch.randn(9, 5) + 3)
    return layer


def test_moving_statistics_are_saved_and_restored(tmp_path):
    layer, other = layer_after_a_batch(), bn.BatchNorm(5, 2)
    torch.save(layer.state_dict(), tmp_path / "layer.pt")
    other.load_state_dict(torch.load(tmp_path / "layer.pt", weights_only=True))
    X = torch.ones(3, 5)
    assert torch.equal(layer.eval()(X), other.eval()(X))
    assert list(layer.state_dict()) == ["gamma", "beta", "moving_mean", "moving_var"]


def test_moving_statistics_move_with_the_model():
    layer = layer_after_a_batch().to("meta")
    assert layer.moving_mean.device.type == layer.gamma.device.type == "meta"
    assert layer_after_a_batch().double().moving_var.dtype == torch.float64


def test_the_mode_is_the_layers_not_the_gradients():
    """`.train()` under no_grad updates; `.eval()` with gradients does not."""
    layer, X = bn.BatchNorm(5, 2), torch.arange(45.0).reshape(9, 5)
    with torch.no_grad():
        layer(X)
    np.testing.assert_allclose(layer.moving_mean, 0.1 * X.mean(0), rtol=1e-6)
    before = copy.deepcopy(layer.state_dict())
    X.requires_grad_()
    layer.eval()(X).sum().backward()
    assert all(torch.equal(v, before[k]) for k, v in layer.state_dict().items())


@pytest.mark.parametrize("mode", [True, False])
def test_a_probe_leaves_the_mode_as_it_was(mode):
    layer, X = bn.BatchNorm(5, 2).train(mode), np.ones((9, 5), "float32")
    bn.probe(layer, X, X, training=not mode)
    assert layer.training == mode


def test_prediction_then_training_then_backward():
    """The update in place must not disturb a graph that is still to run backward."""
    layer = layer_after_a_batch()
    X = torch.randn(9, 5, requires_grad=True)
    Y = layer.eval()(X)
    std = torch.sqrt(layer.moving_var + layer.eps)
    layer.train()(torch.randn(9, 5))
    Y.sum().backward()
    np.testing.assert_allclose(X.grad, (1 / std).expand(9, 5), rtol=1e-6)


def test_the_moved_statistics_carry_no_gradient():
    X, one, zero = torch.randn(9, 5, requires_grad=True), torch.ones(5), torch.zeros(5)
    _, mean, var = bn.batch_norm(X, one, zero, zero, one, training=True)
    assert not mean.requires_grad
    assert not var.requires_grad


def test_channels_last_memory_stays_channels_last():
    X = torch.randn(8, 5, 4, 3).to(memory_format=torch.channels_last)
    Y = bn.BatchNorm(5, 4)(X)
    assert Y.is_contiguous(memory_format=torch.channels_last)


def test_bfloat16():
    X = torch.randn(64, 5).to(torch.bfloat16)
    Y = bn.BatchNorm(5, 2)(X)
    want = bn.BatchNorm(5, 2)(X.float())
    assert Y.dtype == torch.bfloat16
    difference = (Y.float() - want).abs().max() / want.abs().max()
    assert difference <= TOLERANCE["bfloat16"]


def test_the_layer_compiles_without_a_graph_break():
    layer, eager, X = bn.BatchNorm(5, 2), bn.BatchNorm(5, 2), torch.randn(9, 5)
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    assert torch.equal(compiled(X), eager(X))
    assert torch.equal(layer.moving_var, eager.moving_var)


def test_the_layer_can_be_exported_and_copied():
    layer = layer_after_a_batch().eval()
    X = torch.ones(3, 5)
    assert torch.equal(copy.deepcopy(layer)(X), layer(X))
    exported = torch.export.export(layer, (X,)).module()
    assert torch.equal(exported(X), layer(X))


# --- Options of the layer, in PyTorch's idioms ----------------------------------------


def test_weight_decay_without_the_norm_layers():
    """Parameter groups are PyTorch's way to regularize some parameters alone."""
    model = bn.BNLeNet()
    norms = [m for m in model.modules() if isinstance(m, bn.BatchNorm)]
    free = {id(p) for norm in norms for p in norm.parameters()}
    decayed = [p for p in model.parameters() if id(p) not in free]
    groups = [
        {"params": decayed, "weight_decay": 0.5},
        {"params": [p for p in model.parameters() if id(p) in free]},
    ]
    before = copy.deepcopy(model.state_dict())
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    torch.optim.SGD(groups, lr=1.0).step()
    after = model.state_dict()
    assert torch.equal(after["bn1.gamma"], before["bn1.gamma"])
    assert torch.equal(after["conv1.weight"], before["conv1.weight"] / 2)


@pytest.mark.parametrize("frozen", [None, "affine", "all"])
def test_a_frozen_layer_stays_frozen_when_the_parent_trains(frozen):
    layer = layer_after_a_batch()
    layer.frozen = frozen
    model = torch.nn.Sequential(layer, torch.nn.Linear(5, 1)).train()
    before = copy.deepcopy(layer.state_dict())
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0, weight_decay=0.5)
    model(torch.randn(9, 5)).sum().backward()
    optimizer.step()
    after = layer.state_dict()
    moved = {name for name, v in after.items() if not torch.equal(v, before[name])}
    affine, moving = {"gamma", "beta"}, {"moving_mean", "moving_var"}
    assert moved == {None: affine | moving, "affine": moving, "all": set()}[frozen]


def test_thawing_gives_the_gradients_back():
    layer = bn.BatchNorm(5, frozen="all")
    assert not layer.gamma.requires_grad
    layer.frozen = None
    assert layer.gamma.requires_grad
    with pytest.raises(ValueError, match=r"^frozen must be None, 'affine' or 'all';"):
        layer.frozen = "most"


def test_activation_checkpointing_updates_once():
    """The forward pass runs twice; the second leaves the moving averages alone."""
    from torch.utils.checkpoint import checkpoint

    layer, passes = bn.BatchNorm(5), iter([True, False])
    X = torch.randn(9, 5, requires_grad=True)
    Y = checkpoint(lambda X: layer(X, update=next(passes)), X, use_reentrant=False)
    Y.square().sum().backward()
    np.testing.assert_allclose(
        layer.moving_mean, 0.1 * X.detach().mean(0), rtol=1e-5, atol=1e-7
    )


def test_a_lazy_layer_takes_its_sizes_from_a_state():
    layer = layer_after_a_batch()
    lazy = bn.BatchNorm()
    lazy.load_state_dict(layer.state_dict())
    X = torch.ones(3, 5)
    assert torch.equal(lazy.eval()(X), layer.eval()(X))
    assert lazy.num_features == 5


def test_half_accumulated_statistics_are_saved_and_restored():
    X, layer = torch.randn(2, 4, 5), bn.AccumBatchNorm(5, steps=2)
    layer(X[0])
    other = bn.AccumBatchNorm(5, steps=2)
    other.load_state_dict(layer.state_dict())
    layer(X[1])
    other(X[1])
    assert torch.equal(other.moving_var, layer.moving_var)
    np.testing.assert_allclose(
        other.moving_mean, 0.1 * X.mean((0, 1)), rtol=1e-5, atol=1e-7
    )


def test_initializers_may_be_those_of_torch():
    layer = bn.BatchNorm(5, gamma_initializer=torch.nn.init.zeros_)
    assert torch.equal(layer.gamma, torch.zeros(5))


def test_parameters_are_float32_at_least():
    layer = bn.BatchNorm(5, dtype="float16")
    assert {v.dtype for v in layer.state_dict().values()} == {torch.float32}
    assert layer(torch.randn(9, 5).half()).dtype == torch.float16
    assert layer.eval()(torch.randn(9, 5).half()).dtype == torch.float16


@pytest.mark.parametrize(
    "layer",
    [
        lambda: bn.BatchNorm(5, momentum=None),
        lambda: bn.GhostBatchNorm(5, ghost_size=4),
        lambda: bn.BatchRenorm(5),
        lambda: bn.AccumBatchNorm(5, steps=2),
        lambda: bn.FusedBatchNorm(5),
    ],
)
def test_variants_compile_without_a_graph_break(layer):
    compiled, eager, X = layer(), layer(), torch.randn(3, 8, 5)
    step = torch.compile(compiled, backend="aot_eager", fullgraph=True)
    for batch in X:
        np.testing.assert_allclose(
            step(batch).detach(), eager(batch).detach(), rtol=1e-5, atol=1e-6
        )
    for name, v in eager.state_dict().items():
        np.testing.assert_allclose(compiled.state_dict()[name], v, rtol=1e-5, atol=1e-7)


def test_the_transform_is_switched_at_run_time():
    def double(gamma, beta, mean, var):
        return 2 * gamma, beta, mean, var

    X, layer = torch.randn(9, 5), bn.TransformedBatchNorm(5, transform=double)
    doubled = layer(X)
    layer.transformed = False
    assert torch.equal(2 * layer(X), doubled)


def test_against_layer_norm_of_torch():
    X = torch.randn(4, 5, 3, 2, dtype=torch.float64)
    theirs = torch.nn.LayerNorm((5, 3, 2), dtype=torch.float64)
    ours = bn.LayerNorm((5, 3, 2), 4, feature_axis=(1, 2, 3), dtype="float64")
    np.testing.assert_allclose(ours(X).detach(), theirs(X).detach(), atol=1e-14)


@pytest.mark.parametrize("size", [56, 57])
def test_fused_is_exact_in_channels_last_memory(size):
    """Compiled, and at a large mean: where one long sum of squares is off by 1e-5."""
    X = np.random.default_rng(0).normal(1e4, 1, (16, 4, size, size)).astype("float32")
    own = torch.from_numpy(X).to(memory_format=torch.channels_last)
    Y = bn.FusedBatchNorm(4)(own)
    one, zero = np.ones(4), np.zeros(4)
    want = spec.batch_norm(X, one, zero, zero, one, training=True)[0]
    assert Y.is_contiguous(memory_format=torch.channels_last)
    assert np.max(np.abs(Y.detach().numpy() - want)) <= TOLERANCE["float32"] / 2


def test_fused_without_a_compiler(monkeypatch):
    """The same functions, as they stand; tried once."""
    from bn_from_scratch.backends.torch.variants import fused

    tries = []

    def no_compiler(*args, **kwargs):
        tries.append(args)
        raise RuntimeError("no C++ compiler")

    monkeypatch.setattr(torch, "compile", no_compiler)
    fused.compiled.cache_clear()
    X = torch.randn(64, 4, 20, 20, requires_grad=True)  # large enough to compile
    ours, core = bn.FusedBatchNorm(4), bn.BatchNorm(4)
    dY = torch.randn_like(X)
    for _ in range(2):
        got, want = (torch.autograd.grad(layer(X), X, dY)[0] for layer in (ours, core))
        np.testing.assert_allclose(got, want, atol=1e-5)
    fused.compiled.cache_clear()
    assert len(tries) == 2  # forward, backward
