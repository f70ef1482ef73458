"""What only MXNet has: its import beside NumPy 2, Parameters, recorded modes."""

import subprocess
import sys

import numpy as np
import pytest
from conftest import load_or_skip

bn = load_or_skip("mxnet")
mxnet = pytest.importorskip("mxnet")
X = np.random.default_rng(0).normal(3, 2, (9, 5)).astype("float32")


def new_layer(cls=bn.BatchNorm, num_features=5, **options):
    layer = cls(num_features, **options)
    layer.initialize()
    return layer


def to_mxnet(array):
    return mxnet.np.array(array, dtype=array.dtype)


def test_numpy_is_left_as_it_was_found():
    code = (
        "import numpy; before = set(vars(numpy)); from bn_from_scratch import mxnet; "
        "from bn_from_scratch.backends.mxnet.numpy2 import REMOVED; "
        "print(set(REMOVED) & (set(vars(numpy)) - before))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True
    )
    assert answer.stdout == "set()\n"


def test_the_mode_is_that_of_the_recording():
    layer = new_layer()
    layer(to_mxnet(X))
    with mxnet.autograd.record(train_mode=False):
        layer(to_mxnet(X))
    np.testing.assert_array_equal(layer.moving_mean.data().asnumpy(), np.zeros(5))
    with mxnet.autograd.record():
        layer(to_mxnet(X))
    moving_mean = layer.moving_mean.data().asnumpy()
    np.testing.assert_allclose(moving_mean, 0.1 * X.mean(0), rtol=1e-5)


def test_the_update_happens_once_in_forward():
    """Gluon's own layer updates in backward: as often as backward runs."""
    layer = new_layer()
    with mxnet.autograd.record():
        Y = layer(to_mxnet(X)).sum()
    moved = layer.moving_mean.data().asnumpy().copy()
    Y.backward(retain_graph=True)
    Y.backward()
    np.testing.assert_array_equal(layer.moving_mean.data().asnumpy(), moved)


def test_the_moved_statistics_carry_no_gradient():
    one, zero, leaf = mxnet.np.ones(5), mxnet.np.zeros(5), to_mxnet(X)
    leaf.attach_grad()
    with mxnet.autograd.record():
        _, mean, var = bn.batch_norm(leaf, one, zero, zero, one, training=True)
        moved = (mean + var).sum()
    with pytest.raises(mxnet.base.MXNetError, match="not in a computational graph"):
        moved.backward()


def test_moving_statistics_are_saved_and_restored(tmp_path):
    model, other = bn.BNLeNet(seed=0), bn.BNLeNet(seed=1)
    images = to_mxnet(np.random.default_rng(0).random((4, 1, 28, 28), "float32"))
    with mxnet.autograd.record():
        model(images)
    model.save_parameters(str(tmp_path / "lenet.params"))
    other.load_parameters(str(tmp_path / "lenet.params"))
    np.testing.assert_array_equal(model(images).asnumpy(), other(images).asnumpy())


def test_moving_statistics_have_no_gradient_and_follow_cast():
    layer = new_layer()
    assert layer.moving_mean.grad_req == layer.moving_var.grad_req == "null"
    layer.cast("float64")
    assert layer.moving_mean.data().dtype == np.float64


def test_parameters_stay_in_float32_at_least():
    for layer in (bn.BatchNorm(5, dtype="float16"), bn.LayerNorm(5, dtype="float16")):
        layer.initialize()
        assert layer.gamma.data().dtype == np.float32
        layer.cast("float16")
        assert layer.gamma.data().dtype == np.float32


def recorded(layer, X=X, **options):
    """One forward and backward pass in training; the gradient of X."""
    leaf = to_mxnet(X)
    leaf.attach_grad()
    with mxnet.autograd.record():
        Y = layer(leaf, **options)
    Y.backward()  # from ones
    return leaf.grad.asnumpy()


def values(layer):
    return {k: p.data().asnumpy() for k, p in layer._reg_params.items()}


# --- States --------------------------------------------------------------------------


def test_frozen_parameters_take_no_gradient_and_thaw():
    """By Gluon's own means, grad_req; the statistics move all the same."""
    layer = new_layer(frozen="affine")
    trainer = mxnet.gluon.Trainer(layer.collect_params(), "sgd")
    before = values(layer)
    recorded(layer)
    trainer.step(1)
    after = values(layer)
    assert layer.gamma.grad_req == layer.beta.grad_req == "null"
    np.testing.assert_array_equal(after["gamma"], before["gamma"])
    assert np.all(after["moving_mean"] != before["moving_mean"])
    layer.frozen = None
    recorded(layer)
    np.testing.assert_array_equal(layer.beta.grad().asnumpy(), np.full(5, 9))


@pytest.mark.parametrize("layer", [{"frozen": "all"}, bn.FrozenBatchNorm], ids=str)
def test_frozen_layers_predict_while_the_rest_is_recorded_in_training(layer):
    layer = new_layer(**layer) if isinstance(layer, dict) else new_layer(layer)
    before = values(layer)
    gradient = recorded(layer)
    np.testing.assert_allclose(gradient, np.full(X.shape, 1 / np.sqrt(1 + layer.eps)))
    for name, value in values(layer).items():
        np.testing.assert_array_equal(value, before[name])


def test_no_mode_undoes_freezing():
    net = mxnet.gluon.nn.Sequential()
    net.add(bn.BatchNorm(5))
    net.initialize()
    net[0].frozen = "all"
    for mode in (mxnet.autograd.train_mode, mxnet.autograd.record):
        with mode():
            net(to_mxnet(X))
    np.testing.assert_array_equal(net[0].moving_mean.data().asnumpy(), np.zeros(5))


def test_prediction_then_training_in_one_recording():
    """The update must not disturb a graph that is still to run backward."""
    layer = new_layer(
        bn.TransformedBatchNorm, transform=lambda g, b, m, v: (g * m, b, m, v)
    )
    recorded(layer)
    moving_mean = layer.moving_mean.data().asnumpy().copy()
    std = np.sqrt(layer.moving_var.data().asnumpy() + layer.eps)
    with mxnet.autograd.record(train_mode=False):
        Y = layer(to_mxnet(X)).sum()
    with mxnet.autograd.record():
        layer(to_mxnet(X + 1))
    Y.backward()
    want = moving_mean * ((X - moving_mean) / std).sum(0)
    np.testing.assert_allclose(layer.gamma.grad().asnumpy(), want, rtol=1e-5)


@pytest.mark.parametrize("cls", [bn.BatchNorm, bn.FusedBatchNorm])
def test_statistics_stay_where_nothing_may_or_can_move_them(cls):
    layer = new_layer(cls)
    recorded(layer, update=False)
    with mxnet.autograd.record():
        Y = layer(to_mxnet(X[:0]))
    assert Y.shape == (0, 5)
    np.testing.assert_array_equal(layer.moving_mean.data().asnumpy(), np.zeros(5))
    np.testing.assert_array_equal(layer.moving_var.data().asnumpy(), np.ones(5))


def test_fused_adds_to_the_gradients_that_are_there():
    """grad_req="add", of X and of the parameters: two passes give the sum."""
    rng = np.random.default_rng(0)
    X, dY = rng.normal(3, 2, (2, 9, 5, 4))
    mode = {"training": True, "steps": 1}
    want = bn.probe(bn.BatchNorm(5, dtype="float64"), X, dY, **mode)
    layer, own = bn.FusedBatchNorm(5, dtype="float64"), to_mxnet(X)
    layer.initialize()
    own.attach_grad("add")
    for p in (layer.gamma, layer.beta):
        p.grad_req = "add"
    for scale in (1, 2):
        with mxnet.autograd.record():
            Y = layer(own)
        Y.backward(to_mxnet(scale * dY))
    gradients = own.grad, layer.gamma.grad(), layer.beta.grad()
    for name, got in zip(("dX", "dgamma", "dbeta"), gradients, strict=True):
        np.testing.assert_allclose(
            got.asnumpy(), 3 * want[name], rtol=1e-11, atol=1e-12
        )


def test_weight_decay_can_leave_the_norm_parameters_out():
    """wd_mult of the Parameters: at a learning rate of 1 the decay is all there is."""
    net = mxnet.gluon.nn.Sequential()
    net.add(mxnet.gluon.nn.Dense(5, in_units=5), bn.BatchNorm(5))
    net.initialize("ones")
    for p in net.collect_params(".*batchnorm.*").values():
        p.wd_mult = 0.0
    trainer = mxnet.gluon.Trainer(
        net.collect_params(), "sgd", {"learning_rate": 1.0, "wd": 0.25}
    )
    leaf = to_mxnet(X)
    with mxnet.autograd.record():
        Y = 0 * net(leaf)
    Y.backward()
    trainer.step(1)
    np.testing.assert_array_equal(net[0].weight.data().asnumpy(), np.full((5, 5), 0.75))
    np.testing.assert_array_equal(net[1].gamma.data().asnumpy(), np.ones(5))


# --- Initial values and sizes --------------------------------------------------------


def test_initial_values_are_exact_in_float64():
    options = {"gamma_initializer": 0.1, "moving_mean_initializer": np.float64(1 / 3)}
    layer = new_layer(dtype="float64", beta_initializer="ones", **options)
    assert np.all(layer.gamma.data().asnumpy() == 0.1)
    assert np.all(layer.moving_mean.data().asnumpy() == 1 / 3)
    assert np.all(layer.beta.data().asnumpy() == 1)


def test_initializers_of_mxnet():
    """They hold against the default of the network."""
    layer = bn.BatchNorm(500, gamma_initializer=mxnet.init.Normal(0.5))
    layer.initialize(mxnet.init.Zero())
    gamma = layer.gamma.data().asnumpy()
    assert 0.4 < gamma.std() < 0.6
    np.testing.assert_array_equal(layer.moving_var.data().asnumpy(), np.ones(500))


def test_a_layer_without_sizes_in_a_network():
    """Gluon's deferred initialization: the Trainer may be there before the sizes."""
    net = mxnet.gluon.nn.Sequential()
    net.add(mxnet.gluon.nn.Dense(7), bn.BatchNorm(momentum=None))
    net.initialize()
    trainer = mxnet.gluon.Trainer(net.collect_params(), "sgd")
    assert net[1].num_features is None
    recorded(net)
    trainer.step(1)
    assert net[1].num_features == 7
    assert net[1].moving_count.data().asnumpy() == 9
    with pytest.raises(ValueError, match=r"^expected 7 channels on axis 1; X has"):
        net[1](to_mxnet(X))


def test_a_layer_that_was_not_initialized_says_so():
    with pytest.raises(RuntimeError, match="has not been initialized"):
        bn.BatchNorm(5)(to_mxnet(X))


def test_a_layer_on_another_context_says_so():
    leaf = to_mxnet(X).as_in_ctx(mxnet.cpu(1))
    with pytest.raises(RuntimeError, match="was not initialized on context cpu"):
        new_layer()(leaf)


# --- Saving and moving ---------------------------------------------------------------


def accumulating(num_features):
    net = mxnet.gluon.nn.Sequential()
    net.add(bn.AccumBatchNorm(num_features, steps=2, momentum=None))
    return net


@pytest.mark.parametrize("num_features", [5, None], ids=["sizes", "no sizes"])
@pytest.mark.parametrize("initialized", [True, False])
def test_half_way_state_is_saved_and_restored(tmp_path, num_features, initialized):
    """Between two micro-batches: the second moves the averages in both networks."""
    net, other = accumulating(5), accumulating(num_features)
    net.initialize()
    recorded(net)
    net.save_parameters(str(tmp_path / "net.params"))
    if initialized:
        other.initialize()
    other.load_parameters(str(tmp_path / "net.params"))
    for name, value in values(net[0]).items():
        np.testing.assert_array_equal(values(other[0])[name], value)
    assert values(other[0])["accumulated_steps"] == 1
    for trained in (net, other):
        recorded(trained, X + 1)
    got, want = values(other[0]), values(net[0])
    assert want["moving_count"] == 18
    for name, value in want.items():
        np.testing.assert_array_equal(got[name], value)


def test_state_moves_to_other_contexts():
    """Scalars too; each context then has averages of its own."""
    layer = new_layer(bn.BatchRenorm)
    recorded(layer)
    before = values(layer)
    layer.collect_params().reset_ctx([mxnet.cpu(1), mxnet.cpu(2)])
    for name, value in before.items():
        for copy in getattr(layer, name).list_data():
            np.testing.assert_array_equal(copy.asnumpy(), value)
    with mxnet.autograd.train_mode():
        layer(to_mxnet(X).as_in_ctx(mxnet.cpu(2)))
    updates = [float(v.asnumpy()) for v in layer.num_updates.list_data()]
    assert updates == [1, 2]


def test_scalars_are_scalars_in_the_exchange_format():
    layer = new_layer(bn.AccumBatchNorm, steps=2)
    assert values(layer)["accumulated_count"].shape == ()
    layer.cast("float64")
    assert layer.accumulated_count.data().dtype == np.float64


# --- Operators that MXNet has wrong --------------------------------------------------


def test_the_gradient_of_a_masked_mean():
    """MXNet's where(mask, X, 0) gives the gradient to the positions left out."""
    mask = np.arange(9) < 6
    leaf, layer = to_mxnet(X), new_layer()
    leaf.attach_grad()
    with mxnet.autograd.record():
        Y = layer(leaf, mask=to_mxnet(mask))[8, 0]
    Y.backward()
    gradient = leaf.grad.asnumpy()
    assert np.all(gradient[6:8] == 0)
    assert np.all(gradient[:6, 0] != 0)


def test_limits_of_renorm_are_read_in_float64():
    """MXNet's np.clip reads them as float32."""
    from bn_from_scratch.backends.mxnet.variants.renorm import renorm_factors

    four, one, zero = (mxnet.np.array([v], dtype="float64") for v in (4.0, 1.0, 0.0))
    r, d = renorm_factors(four, four, zero, one, 1e-5, r_max=1.2, d_max=0.1)
    assert (r.item(), d.item()) == (1.2, 0.1)
