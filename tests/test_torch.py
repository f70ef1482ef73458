"""What only PyTorch has: modes, buffers, state_dict, memory order, torch.compile."""

import copy

import numpy as np
import pytest
from conftest import load_or_skip
from tolerances import TOLERANCE

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
