"""The second oracle: where a framework has an option or a variant, ours is the same.

And where it is not, how they differ.
"""

import inspect

import numpy as np
import pytest
from conftest import load_or_skip
from tolerances import TOLERANCE

from bn_from_scratch.case import difference, make_case

STEPS = 3
MASK = np.random.default_rng(1).random((9, 4)) < 0.6
SEQUENCES = make_case((9, 5, 4))  # [N, C, L]


def same(got, want, names, tolerance=TOLERANCE["float64"]):
    for name in names:
        off = difference(got[name], want[name])
        assert off <= tolerance, f"{name} differs by {off:.1e}"


def layer_norm_of(bn):
    """The framework's own, over the last axis of 5, in float64."""
    name = bn.__package__.rpartition(".")[2]
    if name == "torch":
        from torch import nn

        return nn.LayerNorm(5, dtype=__import__("torch").float64)
    if name == "tensorflow":
        import keras

        return keras.layers.LayerNormalization(epsilon=1e-5, dtype="float64")
    if name == "jax":
        from flax import linen as nn

        exact = {"use_fast_variance": False, "force_float32_reductions": False}
        return nn.LayerNorm(epsilon=1e-5, param_dtype="float64", **exact)
    from mxnet.gluon import nn

    layer = nn.LayerNorm(in_channels=5)
    layer.cast("float64")
    return layer


@pytest.mark.parametrize("shape", [(9, 5), (6, 4, 5)])
def test_layer_norm(bn, shape):
    X, dY, state = make_case(shape, axis=-1)
    state = {k: state[k] for k in ("gamma", "beta")}
    mode = {"training": True, "state": state, "native": True}
    theirs = bn.probe(layer_norm_of(bn), X, dY, **mode)
    axes = {"axis": -1, "feature_axis": -1}
    ours = bn.probe(bn.LayerNorm(5, dtype="float64", **axes), X, dY, **mode)
    same(ours, theirs, ("Y", "dX", "dgamma", "dbeta"))


def test_the_mask_of_keras():
    bn = load_or_skip("tensorflow")
    X, dY, state = SEQUENCES
    mode = {"training": True, "steps": STEPS, "state": state, "mask": MASK}
    theirs = bn.probe(bn.builtin(5, 3, dtype="float64"), X, dY, **mode)
    ours = bn.probe(bn.BatchNorm(5, 3, dtype="float64"), X, dY, **mode)
    # Keras adds 1e-7 to the number of values, lest it be 0.
    same(ours, theirs, theirs, tolerance=1e-8)


def test_the_mask_of_flax():
    bn = load_or_skip("jax")
    X, dY, state = SEQUENCES
    mode = {"training": True, "steps": STEPS, "state": state}
    theirs = bn.builtin(5, 3, dtype="float64")
    theirs = bn.probe(theirs, X, dY, **mode, mask=MASK[..., None])
    ours = bn.BatchNorm(5, 3, dtype="float64")
    same(bn.probe(ours, X, dY, **mode, mask=MASK), theirs, theirs)


@pytest.mark.parametrize("clipping", [{}, {"rmax": 1.2, "dmax": 0.3, "rmin": 0.9}])
def test_the_renorm_of_keras(clipping):
    """All but the moving variance: Keras averages the standard deviation instead."""
    bn, keras = load_or_skip("tensorflow"), pytest.importorskip("keras")
    if "renorm" not in inspect.signature(keras.layers.BatchNormalization).parameters:
        pytest.skip("tensorflow: this Keras has no renorm")
    X, dY, state = make_case((9, 5))
    state = {k: state[k] for k in ("gamma", "beta")}
    mode = {"training": True, "steps": STEPS, "state": state}
    options = {"dtype": "float64", "renorm_clipping": clipping}
    theirs = bn.builtin(5, 2, renorm=True, renorm_momentum=0.7, **options)
    theirs = bn.probe(theirs, X, dY, **mode)
    theirs["renorm_std"] = theirs.pop("renorm_stddev")
    ours = bn.BatchRenorm(5, 2, renorm_momentum=0.3, **options)
    ours = bn.probe(ours, X, dY, **mode)
    names = "Y", "dX", "dgamma", "dbeta", "moving_mean", "renorm_mean", "renorm_std"
    same(ours, theirs, names)
    std, weight = np.sqrt(X.var(0) + 1e-5), 1 - 0.9**STEPS
    keras_var = ((1 - weight) * 1 + weight * std) ** 2 - 1e-5
    np.testing.assert_allclose(theirs["moving_var"], keras_var, rtol=1e-6)
    np.testing.assert_allclose(ours["moving_var"], 1 - weight + weight * X.var(0))


def test_the_batch_statistics_of_torch_in_prediction():
    bn, torch = load_or_skip("torch"), pytest.importorskip("torch")
    X, dY, state = make_case((9, 5))
    state = {k: state[k] for k in ("gamma", "beta")}
    theirs = torch.nn.BatchNorm1d(5, track_running_stats=False, dtype=torch.float64)
    theirs = bn.probe(theirs, X, dY, training=False, state=state)
    ours = bn.BatchNorm(5, 2, dtype="float64", statistics="batch")
    ours = bn.probe(ours, X, dY, training=False, state=state)
    same(ours, theirs, theirs)


def test_the_cumulative_average_of_torch():
    """Ours is the variance of all values; theirs misses that between the batches."""
    bn, torch = load_or_skip("torch"), pytest.importorskip("torch")
    batches = np.random.default_rng(0).normal(size=(3, 4, 5))
    batches += np.arange(3).reshape(3, 1, 1)
    ours = bn.BatchNorm(5, 2, momentum=None, correction=1, dtype="float64")
    theirs = torch.nn.BatchNorm1d(5, momentum=None, dtype=torch.float64)
    for X in batches:
        ours(torch.from_numpy(X))
        theirs(torch.from_numpy(X))
    np.testing.assert_allclose(ours.moving_mean, theirs.running_mean, rtol=1e-13)
    joined = batches.reshape(-1, 5)
    np.testing.assert_allclose(ours.moving_var, joined.var(0, ddof=1), rtol=1e-13)
    apart = batches.var(1, ddof=1).mean(0)
    np.testing.assert_allclose(theirs.running_var, apart, rtol=1e-13)


def test_the_global_statistics_of_gluon():
    """Prediction while training is recorded: `frozen="all"`, but gamma learns there."""
    bn = load_or_skip("mxnet")
    X, dY, state = make_case((9, 5))
    mode = {"training": True, "steps": STEPS, "state": state}
    theirs = bn.builtin(5, 2, dtype="float64", use_global_stats=True)
    theirs = bn.probe(theirs, X, dY, **mode)
    ours = bn.BatchNorm(5, 2, dtype="float64", frozen="all")
    same(bn.probe(ours, X, dY, **mode), theirs, ("Y", "dX", "moving_mean"))


def test_absent_gamma_and_beta(bn):
    X, dY, state = make_case((9, 5))
    options = {"center": False, "scale": False}
    names = {
        "torch": {"affine": False},
        "jax": {"use_bias": False, "use_scale": False},
    }
    own = names.get(bn.__package__.rpartition(".")[2], options)
    moving = {k: state[k] for k in ("moving_mean", "moving_var")}
    mode = {"training": True, "state": moving}
    theirs = bn.probe(bn.builtin(5, 2, dtype="float64", **own), X, dY, **mode)
    ours = bn.BatchNorm(5, 2, dtype="float64", **options)
    same(bn.probe(ours, X, dY, **mode), theirs, ("Y", "dX"))
