"""Two layers of a model stay two: a path is of one layer, or refused by name."""

import numpy as np
import pytest
from conftest import load_or_skip

from bn_from_scratch.health import health

MESSAGE = r"^each layer must have a path of its own; a\.b is that of two: rename one$"


def keras_model(bn):
    """A layer "b" in the model "a", and a layer "a.b"."""
    import keras

    norm = keras.layers.BatchNormalization
    inner = keras.Sequential([keras.Input((3,)), norm(name="b")], name="a")
    return keras.Sequential([keras.Input((3,)), inner, norm(name="a.b")]), ()


def keras_layer(bn):
    """A layer "a" of two layers "b"."""
    import keras

    class Two(keras.layers.Layer):
        def __init__(self, **named):
            super().__init__(**named)
            self.norms = [keras.layers.BatchNormalization(name="b") for _ in range(2)]

        def build(self, shape):
            for norm in self.norms:
                norm.build(shape)

        def call(self, X):
            return self.norms[1](self.norms[0](X))

    return keras.Sequential([keras.Input((3,)), Two(name="a")]), ()


def flax_model(bn):
    import jax
    from flax import linen as nn

    class Inner(nn.Module):
        @nn.compact
        def __call__(self, X):
            return nn.BatchNorm(use_running_average=True, name="b")(X)

    class Outer(nn.Module):
        @nn.compact
        def __call__(self, X):
            X = Inner(name="a")(X)
            return nn.BatchNorm(use_running_average=True, name="a.b")(X)

    X = np.ones((2, 3), "float32")
    return Outer(), (X, Outer().init(jax.random.key(0), X))


def gluon_model(bn):
    from mxnet.gluon import nn

    inner, outer = nn.HybridSequential(), nn.HybridSequential()
    inner.register_child(nn.BatchNorm(in_channels=3), "b")
    outer.register_child(inner, "a")
    outer.register_child(nn.BatchNorm(in_channels=3), "a.b")
    outer.initialize()
    return outer, ()


@pytest.mark.parametrize(
    ("framework", "make"),
    [
        ("tensorflow", keras_model),
        ("tensorflow", keras_layer),
        ("jax", flax_model),
        ("mxnet", gluon_model),
    ],
)
def test_two_layers_of_one_path_are_refused(framework, make):
    bn = load_or_skip(framework)
    model, inputs = make(bn)
    for look in (bn.batch_norms, health):
        with pytest.raises(ValueError, match=MESSAGE):
            look(model, *inputs)
    with pytest.raises(ValueError, match=MESSAGE):
        if framework == "jax":
            X, variables = inputs
            bn.replace_batch_norm(model, bn.BatchNorm, X, variables=variables)
        else:
            bn.replace_batch_norm(model, bn.BatchNorm)
