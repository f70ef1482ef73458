"""TensorFlow's derivatives: where the plain layer has them, the fused one has them."""

import numpy as np
import pytest
from conftest import load_or_skip

bn = load_or_skip("tensorflow")
tf = pytest.importorskip("tensorflow")
rng = np.random.default_rng(0)
X, DX, W = (tf.constant(rng.normal(1, 2, (6, 4))) for _ in range(3))


def loss(layer):
    return tf.reduce_sum(layer(X, training=True, update=False) ** 3 * W)


def derivative(layer, order):
    """d/dX of the squares of the derivative below it."""
    if order == 0:
        return loss(layer)
    with tf.GradientTape() as tape:
        tape.watch(X)
        value = derivative(layer, order - 1)
        value = tf.reduce_sum(value**2) if order > 1 else value
    return tape.gradient(value, X)


def of_gamma(layer):
    with tf.GradientTape() as tape:
        penalty = tf.reduce_sum((tf.norm(derivative(layer, 1), axis=1) - 1) ** 2)
    return tape.gradient(penalty, layer.gamma.value)


def forward(layer, of):
    with tf.autodiff.ForwardAccumulator(*of) as accumulator:
        Y = layer(X, training=True, update=False)
    return accumulator.jvp(Y)


def forward_over_backward(layer):
    with tf.autodiff.ForwardAccumulator(X, DX) as accumulator:
        gradient = derivative(layer, 1)
    return accumulator.jvp(gradient)


TRANSFORMS = {
    "second": lambda layer: derivative(layer, 2),
    "second, in a graph": lambda layer: tf.function(derivative)(layer, 2),
    "third": lambda layer: derivative(layer, 3),
    "of the penalty to gamma": of_gamma,
    "forward": lambda layer: forward(layer, (X, DX)),
    "forward, of gamma": lambda layer: forward(layer, (layer.gamma.value, DX[0])),
    "forward over backward": forward_over_backward,
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_fused_goes_back_to_the_core(name):
    ours, core = (cls(4, dtype="float64") for cls in (bn.FusedBatchNorm, bn.BatchNorm))
    for layer in (ours, core):
        layer.build((None, 4))
        layer.gamma.assign([0.5, 1, 2, -1])
    got, want = (TRANSFORMS[name](layer) for layer in (ours, core))
    np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-12 * np.abs(want).max())
