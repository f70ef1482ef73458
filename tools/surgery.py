"""Replace and fold the batch norms of real models: `python tools/surgery.py`.

Prints a row per framework: the largest difference of a model's output, relative to its
largest value, in float64, after its batch norms were replaced by ours, in prediction
and in training, and after ours were folded into the convolutions before them.
"""

import pathlib
import sys

import numpy as np

from bn_from_scratch import backends
from bn_from_scratch.presentation.table import Figure, table
from bn_from_scratch.surgery.proof import difference

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tests"))
MODES = "prediction", "training"


def main():
    header = ["model", "batch norms", "replaced: prediction", "training", "folded"]
    models = torch, tensorflow, jax, mxnet
    installed = [model for model in models if model.__name__ in backends.installed()]
    print(table(header, [model() for model in installed]))


def images(channel_axis):
    X = np.random.default_rng(0).normal(size=(8, 3, 64, 64))
    return np.moveaxis(X, 1, channel_axis)


def state(name, shape, rng):
    """A gamma, variance, ... as training might leave it; None for other parameters."""
    if name.endswith(("gamma", "moving_var")):
        return rng.uniform(0.5, 2, shape)
    if name.endswith(("beta", "moving_mean")):
        return rng.normal(0, 0.5, shape)
    return None


def row(name, count, before, after, folded):
    """Cells of the table: outputs {mode: arrays} before and after."""
    replaced = (Figure(difference(before[mode], after[mode])) for mode in MODES)
    apart = Figure(difference(before["prediction"], folded["prediction"]))
    return [name, count, *replaced, apart]


def torch():
    from resnet import ResNet18

    from bn_from_scratch import torch as bn
    from bn_from_scratch.backends.torch.builtin import exchange_names
    from bn_from_scratch.backends.torch.models import copying

    model, X, rng = ResNet18().double(), images(1), np.random.default_rng(1)
    for name, v in exchange_names(model).items():
        if (value := state(name, v.shape, rng)) is not None:
            v.data.copy_(copying.torch.from_numpy(value))
    ours = bn.replace_batch_norm(model, bn.BatchNorm)
    before, after = (copying.outputs(m, X, MODES) for m in (model, ours))
    folded = copying.outputs(bn.fold_batch_norm(ours, X), X, MODES[:1])
    count = len(bn.batch_norms(model))
    return row("PyTorch: ResNet-18", count, before, after, folded)


def tensorflow():
    from bn_from_scratch import tensorflow as bn

    import keras  # isort: skip  (after the backend, which quiets its logs)

    from bn_from_scratch.backends.tensorflow.builtin import exchange_names
    from bn_from_scratch.backends.tensorflow.models import copying

    keras.config.set_floatx("float64")
    shape, rng = (64, 64, 3), np.random.default_rng(1)
    options = {"input_shape": shape, "classes": 10, "weights": None}
    model, X = keras.applications.MobileNetV2(**options), images(-1)
    for name, v in exchange_names(model).items():
        if (value := state(name, v.shape, rng)) is not None:
            v.assign(value)
    ours = bn.replace_batch_norm(model, bn.BatchNorm)
    before, after = (copying.outputs(m, X, MODES) for m in (model, ours))
    folded = copying.outputs(bn.fold_batch_norm(ours, X), X, MODES[:1])
    keras.config.set_floatx("float32")
    count = len(bn.batch_norms(model))
    return row("Keras: applications.MobileNetV2", count, before, after, folded)


def jax():
    bn = backends.load("jax", "float64")
    from flax.traverse_util import flatten_dict, unflatten_dict
    from resnet_flax import ResNet18

    from bn_from_scratch.backends.jax.builtin import exchange_names
    from bn_from_scratch.backends.jax.models import rewiring

    model, X, rng = ResNet18(dtype="float64"), images(-1), np.random.default_rng(1)
    flat = flatten_dict(rewiring.run(model, None, X)[1])
    for name, place in exchange_names(unflatten_dict(flat)).items():
        if (value := state(name, flat[place].shape, rng)) is not None:
            flat[place] = value
    given = unflatten_dict(flat)
    ours, variables = bn.replace_batch_norm(model, bn.BatchNorm, X, variables=given)
    before = rewiring.outputs(model, given, X, MODES)
    after = rewiring.outputs(ours, variables, X, MODES)
    small = rewiring.outputs(*bn.fold_batch_norm(ours, X, variables), X, MODES[:1])
    count = len(bn.batch_norms(model, X, given))
    return row("Flax: ResNet-18", count, before, after, small)


def mxnet():
    from bn_from_scratch import mxnet as bn

    from mxnet.gluon.model_zoo import vision  # isort: skip  (after the backend)

    from bn_from_scratch.backends.mxnet.builtin import exchange_names
    from bn_from_scratch.backends.mxnet.models import copying

    model, X, rng = vision.resnet18_v1(classes=10), images(1), np.random.default_rng(1)
    model.initialize()
    model = copying.exact(model, X)
    for name, p in exchange_names(model).items():
        if (value := state(name, p.shape, rng)) is not None:
            p.set_data(copying.np.array(value))
    ours = bn.replace_batch_norm(model, bn.BatchNorm)
    before, after = (copying.outputs(m, X, MODES) for m in (model, ours))
    folded = copying.outputs(bn.fold_batch_norm(ours, X), X, MODES[:1])
    count = len(bn.batch_norms(model))
    return row("Gluon: model_zoo resnet18_v1", count, before, after, folded)


if __name__ == "__main__":
    main()
