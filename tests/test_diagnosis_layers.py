"""Real layers of two frameworks: what they differ in is what is said of them."""

from functools import partial

import numpy as np
import pytest
from conftest import load_or_skip

from bn_from_scratch import backends, diagnosis
from bn_from_scratch.diagnosis.layers import describe

torch = load_or_skip("torch")


PYTORCH = ("weight", "bias", "running_mean", "running_var")


def names(found):
    return {(cause.name, cause.side) for cause in found.causes}


@pytest.fixture(scope="module", params=backends.NAMES[1:])
def other(request):
    return load_or_skip(request.param)


def test_ours_are_equal_in_all_frameworks(other):
    for sizes in ((5, 4), (4, 2), (1, 4)):
        found = diagnosis.diagnose(torch.BatchNorm(*sizes), other.BatchNorm(*sizes))
        assert found.equal, f"{found}"


def test_ours_are_equal_in_float64(other):
    one, two = (b.BatchNorm(5, 4, dtype="float64") for b in (torch, other))
    assert diagnosis.diagnose(one, two, dtype="float64").equal


def test_pytorch_stores_the_unbiased_variance():
    from torch import nn

    found = diagnosis.diagnose(torch.BatchNorm(5, 4), nn.BatchNorm2d(5))
    assert (
        names(found) == {("stored variance: unbiased", "b")} and not found.unexplained
    )
    assert "1.00629 times, and n/(n-1) is 1.00629 (n = 160)" in found.causes[0].evidence
    assert diagnosis.diagnose(
        torch.BatchNorm(5, 4, correction=1), nn.BatchNorm2d(5)
    ).equal


def test_pytorch_options_are_named():
    from torch import nn

    def of(layer):
        found = diagnosis.diagnose(nn.BatchNorm2d(5), layer)
        assert not found.unexplained
        return names(found)

    assert of(nn.BatchNorm2d(5, eps=1e-3)) == {("eps", "a and b")}
    assert of(nn.BatchNorm2d(5, momentum=0.9)) == {
        ("momentum weighs the old value", "a and b")  # each as it was set
    }
    assert of(nn.BatchNorm2d(5, momentum=None)) == {("momentum pools", "b")}
    assert ("gamma and beta missing", "b") in of(nn.BatchNorm2d(5, affine=False))
    assert of(nn.BatchNorm2d(5)) == set()


def test_activation_checkpointing_moves_twice():
    from torch import nn
    from torch.utils.checkpoint import checkpoint

    class CheckpointedBatchNorm(nn.BatchNorm2d):
        def forward(self, X):
            return checkpoint(super().forward, X, use_reentrant=False)

    found = diagnosis.diagnose(nn.BatchNorm2d(5), CheckpointedBatchNorm(5))
    assert names(found) == {("updated in backward too", "b")} and not found.unexplained


def test_keras_by_default_against_pytorch():
    load_or_skip("tensorflow")
    import keras
    from torch import nn

    found = diagnosis.diagnose(nn.BatchNorm2d(5), keras.layers.BatchNormalization())
    assert names(found) == {
        ("stored variance: unbiased", "a"),
        ("eps", "a and b"),
        ("momentum", "a and b"),
    }
    assert not found.unexplained
    tuned = keras.layers.BatchNormalization(epsilon=1e-5, momentum=0.9)
    assert diagnosis.diagnose(torch.BatchNorm(5, 4), tuned).equal
    tuned.trainable = False
    found = diagnosis.diagnose(torch.BatchNorm(5, 4), tuned)
    assert names(found) == {("training ignored: never training", "b")}


def test_flax_takes_the_variance_in_one_pass():
    load_or_skip("jax")
    from flax import linen as nn

    found = diagnosis.diagnose(torch.BatchNorm(5, 4), nn.BatchNorm(momentum=0.9))
    assert names(found) == {("one-pass variance", "b")} and not found.unexplained
    two_passes = nn.BatchNorm(momentum=0.9, use_fast_variance=False)
    assert diagnosis.diagnose(torch.BatchNorm(5, 4), two_passes).equal


def gluon(**options):
    from mxnet.gluon import nn

    layer = nn.BatchNorm(in_channels=5, **options)
    layer.initialize()
    return layer


@pytest.mark.parametrize(
    ("options", "causes"),
    [
        ({}, {"updated in backward", "variance in 16 bits"}),
        (
            {"scale": False},
            {"updated in backward", "variance in 16 bits", "gamma missing"},
        ),
        ({"use_global_stats": True}, {"training ignored: never training"}),
    ],
)
def test_gluon_moves_in_the_backward(options, causes):
    load_or_skip("mxnet")
    found = diagnosis.diagnose(torch.BatchNorm(5, 4), gluon(**options))
    assert names(found) == {(name, "b") for name in causes} and not found.unexplained


# --- Recording -----------------------------------------------------------------------


def test_a_recorded_layer_is_left_as_it_is(bn):
    layer = bn.builtin(5, 4)
    if hasattr(layer, "initialize"):
        layer.initialize()
    if hasattr(layer, "build"):
        layer.build((None, 5, 4, 5))
    before = diagnosis.record(layer)
    after = diagnosis.record(layer)
    assert before.keys() == after.keys()
    assert all(np.array_equal(v, after[k]) for k, v in before.items())
    assert float(before["momentum"]) == pytest.approx(0.1)
    assert float(before["eps"]) == pytest.approx(1e-5)


def test_a_saved_record_can_be_held_against_a_layer(tmp_path):
    path = tmp_path / "layer.safetensors"
    diagnosis.save(diagnosis.record(torch.BatchNorm(5, 4)), path)
    assert diagnosis.diagnose(path, torch.BatchNorm(5, 4)).equal


def test_layers_of_other_sizes_are_refused():
    with pytest.raises(
        ValueError, match="the two must agree in num_features; got 4 and 5"
    ):
        diagnosis.diagnose(torch.BatchNorm(5, 4), torch.BatchNorm(4, 4))


def test_a_layer_with_several_channel_axes_is_refused():
    several = torch.BatchNorm((3, 4), 4, axis=(1, 2))
    for other in (several, torch.BatchNorm(3, 4)):
        with pytest.raises(ValueError) as raised:
            diagnosis.diagnose(other, several)
        said = "a layer to record must have one channel axis; got (1, 2)"
        assert str(raised.value) == said
    one = torch.BatchNorm((3,), 4, axis=(3,))
    assert diagnosis.diagnose(one, torch.BatchNorm(3, 4)).equal


# --- Models --------------------------------------------------------------------------


def test_models_are_paired_by_name():
    from torch import nn

    found = diagnosis.diagnose(torch.BNLeNet(), torch.BNLeNet(torch.builtin))
    assert [d.layer for d in found.layers] == ["bn1", "bn2", "bn3", "bn4"]
    assert {c.name for c in found.causes} == {"stored variance: unbiased"}
    with pytest.raises(ValueError, match="no batch norm is in the Linear"):
        diagnosis.diagnose(nn.Linear(2, 2), torch.BNLeNet())


def test_a_flax_model_brings_its_variables_and_an_input():
    flax = load_or_skip("jax")
    import jax

    X, causes = np.zeros((1, 28, 28, 1), "f4"), {}
    for eps in (1e-5, 1e-3):
        model = flax.LeNet(partial(flax.builtin, eps=eps))
        variables = model.init(jax.random.key(0), X, training=False)
        found = diagnosis.diagnose((model, variables, X), torch.BNLeNet())
        assert [layer.layer for layer in found.layers] == ["bn1", "bn2", "bn3", "bn4"]
        causes[eps] = [cause.name for cause in found.causes]
    assert causes == {1e-5: [], 1e-3: ["eps"] * 4}
    with pytest.raises(TypeError, match="a Flax module does not hold its layers"):
        diagnosis.diagnose(model, torch.BNLeNet())


@pytest.mark.parametrize("name", ["tensorflow", "mxnet"])
def test_models_of_two_frameworks(name):
    other = load_or_skip(name)
    model = other.BNLeNet()
    assert diagnosis.diagnose(torch.BNLeNet(), model).equal


def test_parameters_ported_in_another_order_are_found():
    from torch import nn

    one, other = nn.BatchNorm1d(3), nn.BatchNorm1d(3)
    values = {k: torch_tensor(np.arange(3) + 10 * i) for i, k in enumerate(PYTORCH)}
    for name in PYTORCH:
        getattr(one, name).data[:] = values[name]
    shifted = ("weight", "running_mean", "running_var", "bias")
    for name, source in zip(PYTORCH, shifted, strict=True):
        getattr(other, name).data[:] = values[source]
    (cause,) = diagnosis.diagnose(one, other).causes
    assert cause.name == "parameter order"
    assert "b's beta is a's moving_mean" in cause.evidence


def torch_tensor(values):
    import torch

    return torch.tensor(values, dtype=torch.float32)


def test_the_half_call_starts_where_the_steps_started():
    """Whatever momentum=None has counted, and whatever has moved."""
    record = diagnosis.record(torch.BatchNorm(4, 2, momentum=None))
    X = record["half.X"].astype("float64")
    np.testing.assert_allclose(record["half.moving_mean"], X.mean(0), rtol=1e-4)
    np.testing.assert_allclose(record["half.moving_var"], X.var(0), rtol=1e-3)


def test_a_layer_itself_is_not_moved(bn):
    layer = bn.builtin(5, 4)
    if hasattr(layer, "initialize"):
        layer.initialize()
    if hasattr(layer, "build"):
        layer.build((None, 5, 4, 5))
    before = state_of(layer)
    diagnosis.record(layer)
    after = state_of(layer)
    assert before.keys() == after.keys()
    assert all(np.array_equal(v, after[k]) for k, v in before.items())


def state_of(layer):
    return describe(layer).state
