"""Model surgery in Gluon: batch norms replaced and folded, and nothing else."""

from functools import partial

import numpy as np
import pytest
from conftest import SLIGHTLY, load_or_skip
from hypothesis import given
from hypothesis import strategies as st
from properties import tried
from whole_models import assert_same_state, close, kinds, not_proven, refuses

bn = load_or_skip("mxnet")
mxnet = pytest.importorskip("mxnet")

from mxnet import autograd  # noqa: E402
from mxnet.gluon import HybridBlock, nn  # noqa: E402
from mxnet.gluon.contrib.nn import SyncBatchNorm  # noqa: E402
from mxnet.gluon.model_zoo import vision  # noqa: E402

from bn_from_scratch.backends.mxnet.builtin import exchange_names  # noqa: E402

rng = np.random.default_rng(0)
IMAGES = rng.normal(size=(3, 3, 32, 32))
FEATURES = rng.normal(1, 2, (8, 5))
KINDS = ("gamma", "beta", "moving_mean", "moving_var")
WORDS = {"gamma": "scale", "beta": "center"}


def to_mxnet(array):
    return mxnet.np.array(array, dtype=array.dtype)


def chain(*layers, X=FEATURES):
    """A model of these layers, with all sizes known, in float64 and randomized."""
    hybrid = all(isinstance(layer, HybridBlock) for layer in layers)
    model = nn.HybridSequential() if hybrid else nn.Sequential()
    model._children.update({str(i): layer for i, layer in enumerate(layers)})
    return ready(model, X)


def ready(model, X, seed=0):
    model.initialize(mxnet.init.Xavier())
    model.cast("float32")  # MXNet draws in float32 alone
    model(to_mxnet(X.astype("float32")))
    model.cast("float64")
    return randomized(model, seed)


def randomized(model, seed=0):
    """The model with the state of batch norms that have seen some data."""
    draw = np.random.default_rng(seed)
    for name, p in exchange_names(model).items():
        if name.endswith(("gamma", "moving_var")):
            p.set_data(to_mxnet(draw.uniform(0.3, 3, p.shape)))
        elif name.endswith(("beta", "moving_mean")) and p._differentiable | (
            "mean" in name
        ):
            p.set_data(to_mxnet(draw.normal(0, 2, p.shape)))
        elif name.endswith("bias"):  # Gluon begins with 0, which would show nothing
            p.set_data(to_mxnet(draw.normal(0, 0.5, p.shape)))
    return model


def values(model):
    return {k: p.list_data()[0].asnumpy() for k, p in exchange_names(model).items()}


def predict(model, X):
    return model(to_mxnet(X)).asnumpy()


def trained(model, X):
    """What a model answers in training; the statistics move, Gluon's in backward."""
    with autograd.record():
        Y = model(to_mxnet(X))
    Y.backward()
    return Y.asnumpy()


# --- Description ---------------------------------------------------------------------


def test_gluons_own_in_the_words_of_the_spec():
    model = chain(nn.Dense(5), nn.BatchNorm(epsilon=0.1, momentum=0.7))
    model[1].beta.grad_req = "null"
    ((path, found),) = bn.batch_norms(model).items()
    assert (path, found.name, found.kind, found.native) == (*"11", "BatchNorm", True)
    assert (found.num_features, found.num_dims) == (5, None)
    assert found.settings == {
        "eps": 0.1,
        "momentum": 0.3,
        "dtype": "float64",
        "axis": 1,
        "center": True,
        "scale": True,
        "correction": 0,
        "statistics": "moving",
        "frozen": None,
    }
    assert found.trainable == {"gamma": True, "beta": False}
    assert list(found.state) == list(KINDS)
    for name, v in found.state.items():
        np.testing.assert_array_equal(v, values(model)[f"1.{name}"])


def unbuilt(**arguments):
    return nn.BatchNorm(**arguments)


@pytest.mark.parametrize(
    ("layer", "num_features", "words"),
    [
        (unbuilt(), None, {"dtype": "float32"}),
        (unbuilt(in_channels=3, scale=False), 3, {"scale": False, "center": True}),
        (unbuilt(in_channels=3, center=False), 3, {"scale": True, "center": False}),
        (unbuilt(axis=-1, use_global_stats=True), None, {"axis": -1, "frozen": "all"}),
        (SyncBatchNorm(3, num_devices=1), 3, {"axis": 1}),
        (nn.BatchNormReLU(in_channels=3), 3, {}),
        (bn.BatchNorm((3, 2), axis=(1, 2), correction=1), (3, 2), {"correction": 1}),
        (bn.FrozenBatchNorm(3, scale=False), 3, {"frozen": "all", "scale": False}),
        (bn.GhostBatchNorm(ghost_size=2, momentum=None), None, {"momentum": None}),
    ],
    ids=lambda v: type(v).__name__ if isinstance(v, nn.Block) else "",
)
def test_settings_of_every_kind(layer, num_features, words):
    found = bn.batch_norms(layer)[""]
    assert (found.name, found.num_features) == (type(layer).__name__, num_features)
    assert words.items() <= found.settings.items()
    assert found.native == (not isinstance(layer, bn.BatchNorm))
    assert found.state == {}
    layer.initialize()
    assert bn.batch_norms(layer)[""].settings == found.settings


def test_global_statistics_leave_gamma_trainable():
    model = chain(nn.BatchNorm(use_global_stats=True))
    assert bn.batch_norms(model)["0"].trainable == {"gamma": True, "beta": True}
    ours = bn.replace_batch_norm(model, bn.BatchNorm, FEATURES)
    assert ours[0].frozen == "all"
    assert ours[0].gamma.grad_req == "write"


def test_gluon_adds_a_beta_without_center_and_ignores_a_gamma_without_scale():
    model = chain(nn.BatchNorm(center=False, scale=False))
    model[0].beta.set_data(to_mxnet(np.arange(5.0)))
    model[0].gamma.set_data(to_mxnet(np.full(5, 7.0)))
    found = bn.batch_norms(model)["0"]
    assert (found.settings["center"], found.settings["scale"]) == (True, False)
    assert found.trainable == {"beta": False}
    ours = bn.replace_batch_norm(model, bn.BatchNorm, FEATURES)
    close(predict(ours, FEATURES), predict(model, FEATURES))
    folded = chain(nn.Dense(5), model[0])
    close(
        predict(bn.fold_batch_norm(folded, FEATURES), FEATURES),
        predict(folded, FEATURES),
    )


def test_under_set_np_a_batch_norm_with_relu_has_none():
    model = chain(nn.BatchNormReLU())
    assert predict(model, FEATURES).min() < 0
    bn.replace_batch_norm(model, bn.BatchNorm, FEATURES)


@pytest.mark.parametrize(
    "function",
    [
        lambda model: bn.replace_batch_norm(model, bn.BatchNorm),
        lambda model: bn.fold_batch_norm(model, FEATURES),
    ],
)
def test_a_model_without_any(function):
    model = chain(nn.Dense(5), nn.LayerNorm())
    assert bn.batch_norms(model) == {}
    refuses("the model must have a batch norm; it has none", function, model)


def test_names_of_nested_models():
    model = nn.HybridSequential()
    model.inner = nn.HybridSequential()
    model.inner.norm = nn.BatchNorm(in_channels=3)
    names = [f"inner.norm.{name}" for name in KINDS]
    assert list(exchange_names(model)) == names
    assert list(exchange_names(nn.BatchNorm(in_channels=3))) == list(KINDS)


# --- Replacing -----------------------------------------------------------------------


def test_lenet_there_and_back():
    model = randomized(bn.BNLeNet(bn.builtin, dtype="float64"))
    before, X = values(model), rng.normal(size=(5, 1, 28, 28))
    model.hybridize()
    Y = predict(model, X)
    ours = bn.replace_batch_norm(model, bn.BatchNorm, X)
    assert {type(norm) for norm in (ours.bn1, ours.bn4)} == {bn.BatchNorm}
    assert_same_state(values(ours), before)
    close(predict(ours, X), Y)
    back = bn.replace_batch_norm(ours, bn.builtin, to_mxnet(X))
    assert {type(norm) for norm in (back.bn1, back.bn4)} == {nn.BatchNorm}
    assert_same_state(values(back), before)
    np.testing.assert_array_equal(predict(back, X), Y)
    assert {type(norm) for norm in (model.bn1, model.bn4)} == {nn.BatchNorm}
    assert_same_state(values(model), before)


def test_what_was_replaced_trains():
    """The Trainer hybridizes what it can, and the gradients arrive."""
    model = bn.replace_batch_norm(bn.BNLeNet(bn.builtin), bn.BatchNorm)
    trainer = bn.Trainer(max_epochs=1)
    trainer.prepare(model)
    X, y = rng.normal(size=(8, 1, 28, 28)).astype("float32"), np.arange(8)
    before = values(model)
    losses = [float(trainer.train_step(X, y).asnumpy()) for _ in range(4)]
    assert losses[-1] < losses[0]
    for name, v in values(model).items():
        assert np.any(v != before[name])
    again = bn.replace_batch_norm(model, bn.builtin, X)  # a Trainer holds it
    assert all(p._trainer is None for p in again.collect_params().values())
    assert_same_state(values(again), values(model))


def zoo(dtype, layers=(1, 1)):
    """A ResNet of the model zoo, of so many blocks in each stage."""
    widths = [64, 64, 128, 256, 512][: len(layers) + 1]
    model = vision.ResNetV1(vision.BasicBlockV1, layers, widths, classes=7)
    model.initialize(mxnet.init.Xavier())
    model(mxnet.np.zeros((1, 3, 32, 32)))
    model.cast("float64")
    randomized(model).cast(dtype)
    return model


RESNET_18 = pytest.param((2, 2, 2, 2), 20, marks=pytest.mark.slow)


@pytest.mark.parametrize(("layers", "norms"), [((1, 1), 6), RESNET_18])
def test_a_resnet_of_the_model_zoo(layers, norms):
    model = zoo("float64", layers)
    ours = bn.replace_batch_norm(model, bn.BatchNorm, IMAGES)
    assert kinds(bn, ours) == ["BatchNorm"] * norms
    assert type(ours.features[5][0].downsample[1]) is bn.BatchNorm
    assert_same_state(values(ours), values(model))
    Y = predict(model, IMAGES)
    close(predict(ours, IMAGES), Y)
    folded = bn.fold_batch_norm(model, IMAGES)
    close(predict(folded, IMAGES), Y)
    assert bn.batch_norms(folded) == {}
    folded.hybridize()
    close(predict(folded, IMAGES), Y)
    close(trained(ours, IMAGES), trained(model, IMAGES))
    for name, v in values(model).items():
        close(values(ours)[name], v, 1e-6)  # MXNet reads its momentum as float32


def test_float32_is_proven_in_float64():
    model, images = zoo("float32"), IMAGES.astype("float32")
    ours = bn.replace_batch_norm(model, bn.BatchNorm, images)
    folded = bn.fold_batch_norm(ours, to_mxnet(images))
    assert {v.dtype.name for v in values(folded).values()} == {"float32"}
    close(predict(folded, images), predict(model, images), 1e-5)


def test_a_small_difference_is_refused(slightly_wrong):
    model = chain(nn.Dense(4), nn.BatchNorm())
    model.cast("float32")
    for surgery in slightly_wrong(bn):
        with pytest.raises(ValueError, match=SLIGHTLY):
            surgery(model, FEATURES.astype("float32"))


def test_hybridized_models():
    """What contains a plain Block stays plain; back again, it can be hybridized."""
    inner = nn.HybridSequential()
    inner.add(nn.Dense(5), nn.Dense(5))
    model = chain(inner, nn.BatchNorm())
    model.hybridize()
    Y = predict(model, FEATURES)
    ours = bn.replace_batch_norm(model, bn.BatchNorm, FEATURES)
    for _ in range(2):
        assert (ours._active, ours[0]._active) == (False, True)
        close(predict(ours, FEATURES), Y)
        assert ours[0]._cached_op is not None
        ours.hybridize()
    ours.hybridize(False)
    assert not ours[0]._active
    back = bn.replace_batch_norm(ours, bn.builtin, FEATURES)
    back.hybridize()
    np.testing.assert_array_equal(predict(back, FEATURES), Y)
    assert back._cached_op is not None
    assert model._active


def test_a_part_of_a_hybridized_model():
    """A block remembers its parent; the parent must not come along."""

    class Parent(nn.HybridSequential):
        def __init__(self):
            super().__init__()
            with self.name_scope():
                self.inner = nn.HybridSequential()
                with self.inner.name_scope():
                    self.inner.add(nn.Dense(5), nn.BatchNorm())

    model = ready(Parent(), FEATURES)
    model.hybridize()
    Y = predict(model, FEATURES)
    ours = bn.replace_batch_norm(model.inner, bn.BatchNorm, FEATURES)
    close(predict(ours, FEATURES), Y)
    assert ours._scope._old_scope is None


def test_the_model_is_not_touched():
    model = chain(nn.Dense(5), nn.BatchNorm(), nn.Dropout(0.5))
    before, layer = values(model), model[1]
    for X in (FEATURES, to_mxnet(FEATURES), to_mxnet(FEATURES).as_nd_ndarray()):
        bn.replace_batch_norm(model, bn.BatchNorm, X)
        bn.fold_batch_norm(model, X)
    assert model[1] is layer
    assert not any(m._forward_hooks for m in model)
    assert_same_state(values(model), before)


def test_random_numbers_go_on_from_the_seed():
    model = chain(nn.Dropout(0.5), nn.BatchNorm(), nn.Dropout(0.5))
    drawn = []
    for seed in (1, 1, 2):
        mxnet.random.seed(seed)
        bn.replace_batch_norm(model, bn.BatchNorm, FEATURES)
        drawn.append(mxnet.np.random.uniform().item())
    assert drawn[0] == drawn[1] != drawn[2]


@pytest.mark.parametrize("frozen", [None, "affine", "all"])
def test_flags_are_kept(frozen):
    model = chain(bn.BatchNorm(5, frozen=frozen), nn.BatchNorm())
    model[1].gamma.grad_req = "null"
    new = bn.replace_batch_norm(model, partial(bn.GhostBatchNorm, ghost_size=2))
    back = bn.replace_batch_norm(new, bn.builtin)
    assert new[0].frozen == frozen
    assert back[0]._kwargs["use_global_stats"] == (frozen == "all")
    first = "write" if frozen is None else "null"
    for got in (new, back):
        flags = [getattr(layer, k).grad_req for layer in got for k in KINDS[:2]]
        assert flags == [first, first, "null", "write"]


def test_make_may_freeze():
    model = chain(nn.BatchNorm())
    frozen = bn.replace_batch_norm(model, bn.FrozenBatchNorm, FEATURES, ["prediction"])
    assert frozen[0].frozen == "all"
    assert frozen[0].gamma.grad_req == "null"
    assert_same_state(values(frozen), values(model))
    assert model[0].gamma.grad_req == "write"


def test_gradients_reach_the_copy():
    model = chain(nn.Dense(5), nn.BatchNorm())
    for make in (bn.BatchNorm, bn.builtin):
        new = bn.replace_batch_norm(model, make)
        trained(new, FEATURES)
        np.testing.assert_array_equal(new[1].beta.grad().asnumpy(), np.full(5, 8.0))
        assert not model[1].beta.grad().asnumpy().any()


def test_a_root_that_is_itself_one():
    model = ready(nn.BatchNorm(), FEATURES)
    ours = bn.replace_batch_norm(model, bn.BatchNorm, FEATURES)
    assert type(ours) is bn.BatchNorm
    assert_same_state(values(ours), values(model))


class Twice(HybridBlock):
    """A batch norm that is called twice, and held in a list besides."""

    def __init__(self):
        super().__init__()
        self.first, self.norm = nn.Dense(5), nn.BatchNorm()
        self.block = nn.HybridSequential()
        self.block.add(nn.Dense(5), self.norm)
        self.plain_list = [self.norm]

    def hybrid_forward(self, F, X):
        return self.block(self.plain_list[0](self.first(X)))


def test_a_shared_one_stays_one():
    model = ready(Twice(), FEATURES)
    ours = bn.replace_batch_norm(model, bn.BatchNorm, FEATURES)
    assert list(bn.batch_norms(ours)) == ["norm"]
    assert ours.norm is ours.block[1] is ours.plain_list[0]
    close(predict(ours, FEATURES), predict(model, FEATURES))


def test_shared_parameters_stay_shared():
    first = nn.BatchNorm(in_channels=5)
    model = chain(first, nn.BatchNorm(in_channels=5, params=first.params))
    ours = bn.replace_batch_norm(model, bn.BatchNorm, FEATURES)
    assert ours[0].gamma is ours[1].gamma
    assert ours[0].gamma is not first.gamma
    close(predict(ours, FEATURES), predict(model, FEATURES))


@pytest.mark.parametrize("initialized", [True, False])
@pytest.mark.parametrize("make", [bn.BatchNorm, bn.builtin])
@pytest.mark.parametrize("given", ["own", "ours"])
def test_layers_without_sizes_stay_without(given, make, initialized):
    layer = nn.BatchNorm(epsilon=0.1) if given == "own" else bn.BatchNorm(eps=0.1)
    model = nn.Sequential()
    model.add(nn.Dense(4), layer)
    layer.gamma.grad_req = "null"
    if initialized:
        model.initialize()
    X = FEATURES.astype("float32")
    new = bn.replace_batch_norm(model, make, X if initialized else None)
    assert bn.batch_norms(new)["1"].num_features is None
    if not initialized:
        new.initialize()
    assert predict(new, X).shape == (8, 4)
    found = bn.batch_norms(new)["1"]
    assert (found.num_features, found.settings["eps"]) == (4, 0.1)
    assert found.trainable == {"gamma": False, "beta": True}
    assert bn.batch_norms(model)["1"].num_features is None


def test_what_a_variant_counts_besides():
    model = chain(bn.BatchRenorm(5, momentum=None))
    trained(model, FEATURES)
    new = bn.replace_batch_norm(model, bn.BatchRenorm)
    assert (new[0].moving_count.data(), new[0].num_updates.data()) == (8, 1)


def test_variants():
    model = chain(nn.Dense(4), nn.BatchNorm())
    makes = [
        partial(bn.GhostBatchNorm, ghost_size=4),
        partial(bn.AccumBatchNorm, steps=2),
        bn.BatchRenorm,
        bn.FusedBatchNorm,
        bn.SyncBatchNorm,
    ]
    for make in makes:
        new = bn.replace_batch_norm(model, make, FEATURES, modes=("prediction",))
        assert kinds(bn, new) == [getattr(make, "func", make).__name__]
        assert bn.batch_norms(new)["1"].state.keys() == set(KINDS)
        close(predict(new, FEATURES), predict(model, FEATURES))
        trained(new, FEATURES)  # the states that it adds are there as well


def test_contexts_are_kept():
    model = chain(nn.BatchNorm())
    model.collect_params().reset_ctx([mxnet.cpu(1), mxnet.cpu(2)])
    make = partial(bn.AccumBatchNorm, steps=2)
    new = bn.replace_batch_norm(model, make, FEATURES, ["prediction"])
    for p in new.collect_params().values():
        assert p.list_ctx() == [mxnet.cpu(1), mxnet.cpu(2)]


class Several(nn.Block):
    def __init__(self):
        super().__init__()
        self.linear, self.norm = nn.Dense(4), nn.BatchNorm()

    def forward(self, X):
        Y = self.norm(self.linear(X))
        return {"Y": Y, "more": (Y + 1, [Y * 2])}


def test_a_model_with_several_outputs():
    model = ready(Several(), FEATURES)
    ours = bn.replace_batch_norm(model, bn.BatchNorm, FEATURES)
    bn.fold_batch_norm(ours, FEATURES)
    not_proven("prediction", bn.replace_batch_norm, model, other_eps, FEATURES)


# --- Refused -------------------------------------------------------------------------


def other_eps(*sizes, **words):
    return bn.BatchNorm(*sizes, **(words | {"eps": 0.5}))


def test_another_eps():
    model = chain(nn.Dense(4), nn.BatchNorm())
    before = values(model)
    not_proven("prediction", bn.replace_batch_norm, model, other_eps, FEATURES)
    assert_same_state(values(model), before)


def test_a_variant_in_training():
    model = chain(nn.Dense(4), nn.BatchNorm())
    make = partial(bn.GhostBatchNorm, ghost_size=4)
    not_proven("training", bn.replace_batch_norm, model, make, FEATURES)


def test_half_a_batch_norm_in_prediction():
    replace, model = bn.replace_batch_norm, chain(nn.Dense(4), nn.BatchNorm())
    not_proven("prediction", replace, model, bn.MeanOnlyBatchNorm, FEATURES)


def test_a_mode_that_there_is_not():
    refuses(
        "mode must be 'prediction' or 'training'; got 'eval'",
        bn.replace_batch_norm,
        chain(nn.BatchNorm()),
        bn.BatchNorm,
        FEATURES,
        ["eval"],
    )


def test_state_that_the_new_layer_has_not():
    def make(*sizes, **words):
        return bn.BatchNorm(*sizes, **(words | {"scale": False}))

    refuses(
        "1 cannot be replaced: the new layer must keep its gamma; "
        "BatchNorm has beta, moving_mean, moving_var",
        bn.replace_batch_norm,
        chain(nn.Dense(5), nn.BatchNorm()),
        make,
    )


def test_settings_that_gluon_has_not():
    refuses(
        "0 cannot be replaced: Gluon's layer needs a momentum; got None",
        bn.replace_batch_norm,
        chain(bn.BatchNorm(5, momentum=None)),
        bn.builtin,
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"axis": (1, 2)}, "has one channel axis; got axis=(1, 2)"),
        ({"axis": ()}, "has one channel axis; got axis=()"),
        ({"momentum": None}, "needs a momentum; got None"),
        (
            {"statistics": "batch"},
            "predicts by moving statistics; got statistics='batch'",
        ),
    ],
)
def test_the_built_in_says_what_it_cannot_do(words, message):
    refuses(f"Gluon's layer {message}", bn.builtin, 5, 4, **words)


@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("scale", [True, False])
@pytest.mark.parametrize("frozen", [None, "affine", "all"])
def test_the_built_in_with_settings_is_ours(center, scale, frozen):
    words = {"center": center, "scale": scale, "frozen": frozen}
    words |= {"axis": -1, "dtype": "float64", "eps": 0.1}
    state = {name: np.linspace(1, 2, 5) + len(name) for name in KINDS}
    state = {k: v for k, v in state.items() if words.get(WORDS.get(k), True)}
    dY, results = rng.normal(size=(8, 5)), []
    for make in (bn.BatchNorm, bn.builtin):
        for training in (True, False):
            layer, mode = make(5, 2, **words), {"training": training, "state": state}
            results.append(bn.probe(layer, FEATURES, dY, **mode))
    for got, want in zip(results[:2], results[2:], strict=True):
        assert ("dgamma" in got) == (scale and frozen is None)
        assert got.keys() == want.keys() - {"gamma", "beta"}
        for name, v in got.items():
            close(v, want[name], 1e-6 if "moving" in name else 1e-12)


# --- Folding -------------------------------------------------------------------------

LINEAR = {
    "dense": (partial(nn.Dense, 6), (7, 4)),
    "sequence": (partial(nn.Dense, 6, flatten=False), (7, 6, 4)),
    "conv1d": (partial(nn.Conv1D, 6, 3), (5, 4, 9)),
    "conv2d": (partial(nn.Conv2D, 6, 3, 2, 1), (5, 4, 9, 8)),
    "conv3d": (partial(nn.Conv3D, 6, 2), (5, 4, 3, 4, 5)),
    "groups": (partial(nn.Conv2D, 6, 3, groups=2), (5, 4, 9, 8)),
    "depthwise": (partial(nn.Conv2D, 6, 3, groups=3), (5, 3, 9, 8)),
    "transposed1d": (partial(nn.Conv1DTranspose, 6, 3), (5, 4, 9)),
    "transposed": (partial(nn.Conv2DTranspose, 6, 3, 2), (5, 4, 5, 4)),
    "transposed groups": (partial(nn.Conv2DTranspose, 6, 3, groups=2), (5, 4, 5, 4)),
}
TRANSFORM = {"transform": lambda gamma, beta, mean, var: (gamma * 2, beta, -mean, var)}
NORMS = {
    "own": bn.builtin,
    "ours": bn.BatchNorm,
    "mean only": bn.MeanOnlyBatchNorm,
    "var only": bn.VarOnlyBatchNorm,
    "transformed": partial(bn.TransformedBatchNorm, **TRANSFORM),
    "both": partial(bn.combine("transform", "mean_only"), **TRANSFORM),
    "ghost": partial(bn.GhostBatchNorm, ghost_size=2),
    "frozen": bn.FrozenBatchNorm,
}


def folds(model, X):
    """The folded model, after it was held to the model."""
    Y, before = (
        predict(model, X),
        values(model),
    )  # MXNet sets a gamma without scale to 1
    folded = bn.fold_batch_norm(model, X)
    close(predict(folded, X), Y)
    assert_same_state(values(model), before)
    return folded


@pytest.mark.parametrize("kind", LINEAR)
@pytest.mark.parametrize("use_bias", [True, False])
def test_linear_layers(kind, use_bias):
    make, shape = LINEAR[kind]
    X, axis = rng.normal(size=shape), -1 if kind == "sequence" else 1
    model = chain(make(use_bias=use_bias), nn.BatchNorm(axis=axis), X=X)
    folded = folds(model, X)
    assert type(folded[0]) is type(model[0])
    assert type(folded[1]).__name__ == "Identity"
    assert folded[0].bias.shape == (6,)
    folded.hybridize()
    close(predict(folded, X), predict(model, X))


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("scale", [True, False])
@pytest.mark.parametrize("center", [True, False])
def test_batch_norms_of_every_kind(norm, scale, center):
    layer = NORMS[norm](6, 3, center=center, scale=scale, eps=0.1)
    X = rng.normal(size=(4, 4, 9))
    folds(chain(nn.Conv1D(6, 3), layer, nn.Activation("relu"), X=X), X)


def test_flags_and_contexts_of_the_weight_are_kept():
    model = chain(nn.Dense(4, use_bias=False), nn.BatchNorm())
    model[0].weight.grad_req = "null"
    model.collect_params().reset_ctx(mxnet.cpu(1))
    folded = bn.fold_batch_norm(model, FEATURES)
    for p in (folded[0].weight, folded[0].bias):
        assert (p.grad_req, p.list_ctx()) == ("null", [mxnet.cpu(1)])


def test_layers_without_sizes_take_those_of_the_input():
    model = nn.HybridSequential()
    model.add(nn.Dense(4), nn.BatchNorm())
    model.initialize()
    model.hybridize()
    folded = bn.fold_batch_norm(model, FEATURES)
    assert folded[0].weight.shape == (4, 5)
    assert model[0].weight._data is None


class Module(nn.Block):
    """A model of the layers a, b and norm, whose forward pass is a function."""

    def __init__(self, forward, **layers):
        super().__init__()
        self.function = forward
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, X):
        return self.function(self, X)


def module(forward, **layers):
    given = {"a": nn.Dense(5, in_units=5, flatten=False)}
    given |= {"b": nn.Dense(5, in_units=5), "norm": nn.BatchNorm(in_channels=5)}
    return ready(Module(forward, **(given | layers)), FEATURES)


def test_a_shared_weight_is_folded_in_one_layer_alone():
    a = nn.Dense(5, in_units=5, flatten=False)
    b = nn.Dense(5, in_units=5, params=a.params)
    model = module(lambda m, X: m.norm(m.a(X)) + m.b(X), a=a, b=b)
    folded = folds(model, FEATURES)
    assert folded.b.weight is not folded.a.weight
    assert len(list(folded.collect_params())) == 4
    np.testing.assert_array_equal(values(folded)["b.weight"], values(model)["b.weight"])


def relu(Y):
    return mxnet.npx.relu(Y)


def repeated(X, times):
    return mxnet.np.repeat(X.reshape(8, 1, 5), times, axis=1)


CANNOT = {
    "called twice": (
        {},
        lambda m, X: m.norm(m.a(m.a(X))),
        "a must be called once; it is 2 times",
    ),
    "norm called twice": (
        {},
        lambda m, X: m.norm(m.a(X)) + m.norm(m.b(X)),
        "X must pass through it once; it does 2 times",
    ),
    "never called": (
        {},
        lambda m, X: m.a(X),
        "X must pass through it once; it does 0 times",
    ),
    "read by a layer": (
        {},
        lambda m, X: (lambda Y: m.norm(Y) + m.b(Y))(m.a(X)),
        "b reads the output of a too",
    ),
    "after an activation": (
        {"b": lambda: nn.Activation("relu")},
        lambda m, X: m.norm(m.b(m.a(X))),
        "a convolution or dense layer must come directly before it; b does",
    ),
    "after its own activation": (
        {"a": lambda: nn.Dense(5, activation="relu")},
        lambda m, X: m.norm(m.a(X)),
        "a convolution or dense layer must come directly before it; a.act does",
    ),
    "after a function": (
        {},
        lambda m, X: m.norm(relu(m.a(X))),
        "a convolution or dense layer must come directly before it; none does",
    ),
    "statistics of the batch": (
        {"norm": lambda: bn.BatchNorm(5, statistics="batch")},
        lambda m, X: m.norm(m.a(X)),
        "it predicts by the statistics of the batch",
    ),
    "another axis": (
        {},
        lambda m, X: m.norm(m.a(repeated(X, 5))),
        "its channels must be on axis 2 of its input; axis=1",
    ),
    "our other axis": (
        {"norm": lambda: bn.BatchNorm((3, 5), axis=(1, 2))},
        lambda m, X: m.norm(m.a(repeated(X, 3))),
        "its channels must be on axis 2 of its input; axis=(1, 2)",
    ),
    "layer norm": (
        {"norm": lambda: bn.LayerNorm(5), "first": nn.BatchNorm},
        lambda m, X: m.norm(m.first(m.a(X))),
        "layer norm takes its statistics of each example",
    ),
}


@pytest.mark.parametrize("case", CANNOT)
def test_what_cannot_be_folded(case):
    layers, forward, reason = CANNOT[case]
    model = module(forward, **{name: make() for name, make in layers.items()})
    message = f"norm cannot be folded: {reason}"
    refuses(message, bn.fold_batch_norm, model, FEATURES)


def test_a_root_cannot_be_folded():
    refuses(
        "BatchNorm cannot be folded: a convolution or dense layer must come "
        "directly before it; none does",
        bn.fold_batch_norm,
        ready(nn.BatchNorm(), FEATURES),
        FEATURES,
    )


def test_the_proof_names_the_layer_whose_output_a_function_reads():
    def forward(m, X):
        X = m.first(m.a(X))
        Y = m.b(X)
        return m.norm(Y) + Y  # no layer reads Y

    model = module(forward, first=nn.BatchNorm())
    path = "norm cannot be folded: "
    not_proven("prediction", bn.fold_batch_norm, model, FEATURES, path=path)


# --- Any settings --------------------------------------------------------------------

NUMBERS = st.floats(1e-6, 1.0)
SETTINGS = st.fixed_dictionaries(
    {
        "eps": NUMBERS,
        "momentum": NUMBERS.map(lambda v: round(v, 12)),
        "dtype": st.sampled_from(["float32", "float64"]),
        "axis": st.sampled_from([0, 1, -1]),
        "center": st.booleans(),
        "scale": st.booleans(),
        "frozen": st.sampled_from([None, "all"]),
    }
)


@tried(20)
@given(SETTINGS, st.integers(2, 5), st.integers(0, 9))
def test_there_and_back(words, num_dims, seed):
    X = rng.normal(size=(5, 4, 3, 2, 2)[:num_dims])
    model = nn.HybridSequential()
    model.add(bn.builtin(X.shape[words["axis"]], num_dims, **words))
    model.initialize()
    model.cast("float64")
    randomized(model, seed).cast(words["dtype"])
    ours = bn.replace_batch_norm(model, bn.BatchNorm, X)
    back = bn.replace_batch_norm(ours, bn.builtin, X)
    before, there, after = (bn.batch_norms(m)["0"] for m in (model, ours, back))
    assert words.items() <= there.settings.items()
    assert before.settings == there.settings == after.settings
    assert before.trainable == there.trainable == after.trainable
    assert_same_state(after.state, before.state)
    assert_same_state(there.state, before.state)


@tried(20)
@given(
    st.sampled_from(sorted(LINEAR)),
    st.booleans(),
    NUMBERS,
    st.sampled_from(sorted(NORMS)),
    st.integers(0, 9),
)
def test_folded_after_replaced(kind, use_bias, eps, norm, seed):
    make, shape = LINEAR[kind]
    X, axis = rng.normal(size=shape), -1 if kind == "sequence" else 1
    own = bn.builtin(6, None, eps, axis=axis)
    model = chain(make(use_bias=use_bias), own, nn.Activation("tanh"), X=X)
    replaced = bn.replace_batch_norm(randomized(model, seed), NORMS[norm])
    close(predict(bn.fold_batch_norm(replaced, X), X), predict(replaced, X), 1e-10)
