"""What only MXNet has: its import beside NumPy 2, Parameters, recorded modes."""

import subprocess
import sys

import numpy as np
import pytest
from conftest import load_or_skip

bn = load_or_skip("mxnet")
mxnet = pytest.importorskip("mxnet")
X = np.random.default_rng(0).normal(3, 2, (9, 5)).astype("float32")


def new_layer():
    layer = bn.BatchNorm(5, 2)
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
