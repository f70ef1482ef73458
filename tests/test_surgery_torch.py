"""Model surgery in PyTorch: batch norms replaced and folded, and nothing else."""

import copy
from functools import partial

import numpy as np
import pytest
from conftest import SLIGHTLY, load_or_skip
from hypothesis import given
from hypothesis import strategies as st
from properties import tried
from resnet import ResNet18
from whole_models import assert_same_state, close, kinds, not_proven, refuses

bn = load_or_skip("torch")
torch = pytest.importorskip("torch")
nn = torch.nn

from torch.nn.utils import prune  # noqa: E402

from bn_from_scratch.backends.torch.builtin import exchange_names  # noqa: E402

rng = np.random.default_rng(0)
IMAGES = rng.normal(size=(4, 3, 20, 20))
FEATURES = rng.normal(1, 2, (8, 5))
KINDS = ("gamma", "beta", "moving_mean", "moving_var")


@torch.no_grad()
def randomized(model, seed=0):
    """The model in float64, with the state of batch norms that have seen some data."""
    torch.manual_seed(seed)
    for name, v in exchange_names(model.double()).items():
        if name.endswith(("gamma", "moving_var")):
            v.uniform_(0.3, 3)
        elif name.endswith(("beta", "moving_mean")):
            v.normal_(0, 2)
    return model


def values(model):
    return {k: v.detach().numpy().copy() for k, v in exchange_names(model).items()}


def predict(model, X):
    with torch.no_grad():
        return copy.deepcopy(model).eval()(torch.from_numpy(X)).numpy()


def trained(model, X):
    """A copy after one step of training, and what it answered."""
    model = copy.deepcopy(model).train()
    return model, model(torch.from_numpy(X)).detach().numpy()


# --- Description ---------------------------------------------------------------------


def test_torchs_own_in_the_words_of_the_spec():
    model = nn.Sequential(nn.Linear(5, 5), nn.BatchNorm1d(5, eps=0.1, momentum=0.3))
    randomized(model)[1].bias.requires_grad = False
    (path, found), *others = bn.batch_norms(model).items()
    assert not others
    assert (path, found.name, found.kind, found.native) == (*"11", "BatchNorm1d", True)
    assert (found.num_features, found.num_dims) == (5, None)
    assert found.settings == {
        "eps": 0.1,
        "momentum": 0.3,
        "dtype": "float64",
        "axis": 1,
        "center": True,
        "scale": True,
        "correction": 1,
        "statistics": "moving",
        "frozen": None,
    }
    assert found.trainable == {"gamma": True, "beta": False}
    assert list(found.state) == list(KINDS)
    np.testing.assert_array_equal(found.state["gamma"], model[1].weight.detach())
    np.testing.assert_array_equal(found.state["moving_var"], model[1].running_var)


def test_the_state_is_a_copy():
    model = nn.BatchNorm1d(5)
    found = bn.batch_norms(model)[""]
    found.state["gamma"][:] = 7
    assert torch.all(model.weight == 1)
    assert found.name == "BatchNorm1d"


@pytest.mark.parametrize(
    ("layer", "num_features", "num_dims", "settings"),
    [
        (nn.BatchNorm2d(3), 3, 4, {}),
        (nn.BatchNorm3d(3, affine=False), 3, 5, {"center": False, "scale": False}),
        (nn.SyncBatchNorm(3, momentum=None), 3, None, {"momentum": None}),
        (nn.LazyBatchNorm2d(eps=0.1), None, 4, {"eps": 0.1}),
        (
            nn.BatchNorm1d(3, track_running_stats=False),
            3,
            None,
            {"statistics": "batch"},
        ),
        (bn.BatchNorm(3, 4, axis=-1, correction=1), 3, 4, {"axis": -1}),
        (bn.BatchNorm((3, 2), axis=(1, 2)), (3, 2), None, {"axis": (1, 2)}),
        (bn.FrozenBatchNorm(3, scale=False), 3, None, {"frozen": "all"}),
        (bn.GhostBatchNorm(ghost_size=2), None, None, {"correction": 0}),
        (nn.BatchNorm1d(3).half(), 3, None, {"dtype": "float16"}),
    ],
    ids=lambda v: type(v).__name__ if isinstance(v, nn.Module) else "",
)
def test_settings_of_every_kind(layer, num_features, num_dims, settings):
    found = bn.batch_norms(layer)[""]
    assert (found.num_features, found.num_dims) == (num_features, num_dims)
    assert settings.items() <= found.settings.items()
    assert found.native == (not isinstance(layer, bn.BatchNorm))
    built = num_features is not None
    assert ("gamma" in found.state) == (built and found.settings["scale"])
    assert ("moving_mean" in found.state) == (
        built and (not found.native or found.settings["statistics"] == "moving")
    )


def test_statistics_that_are_kept_but_must_not_move():
    model = nn.BatchNorm1d(5)
    model.track_running_stats = False
    assert bn.batch_norms(model)[""].settings["momentum"] == 0


def test_bfloat16_is_described_in_float32():
    found = bn.batch_norms(nn.BatchNorm1d(2).bfloat16())[""]
    assert found.settings["dtype"] == "bfloat16"
    assert found.state["moving_var"].dtype == np.float32


@pytest.mark.parametrize(
    "function",
    [
        lambda model: bn.replace_batch_norm(model, bn.BatchNorm),
        lambda model: bn.fold_batch_norm(model, FEATURES),
    ],
)
def test_a_model_without_any(function):
    model = nn.Sequential(nn.Linear(5, 5), nn.LayerNorm(5))
    assert bn.batch_norms(model) == {}
    refuses("the model must have a batch norm; it has none", function, model)


# --- Replacing -----------------------------------------------------------------------


def test_lenet_there_and_back():
    model = randomized(bn.BNLeNet(bn.builtin))
    before, X = values(model), rng.normal(size=(5, 1, 28, 28))
    ours = bn.replace_batch_norm(model, bn.BatchNorm, X)
    assert kinds(bn, ours) == ["BatchNorm"] * 4
    assert_same_state(values(ours), before)
    close(predict(ours, X), predict(model, X))
    back = bn.replace_batch_norm(ours, bn.builtin, X)
    assert kinds(bn, back) == ["BatchNorm2d"] * 2 + ["BatchNorm1d"] * 2
    assert_same_state(values(back), before)
    np.testing.assert_array_equal(predict(back, X), predict(model, X))
    assert kinds(bn, model) == kinds(bn, back)
    assert_same_state(values(model), before)


def test_resnet_18():
    """Residual blocks and nested paths; training leaves the same statistics, too."""
    model = randomized(ResNet18(10, width=8))
    ours = bn.replace_batch_norm(model, bn.BatchNorm, IMAGES)
    assert kinds(bn, ours) == ["BatchNorm"] * 20
    assert "layer4.0.downsample.1" in bn.batch_norms(ours)
    assert_same_state(values(ours), values(model))
    close(predict(ours, IMAGES), predict(model, IMAGES))
    (moved, Y), (moved_ours, Y_ours) = (trained(m, IMAGES) for m in (model, ours))
    close(Y_ours, Y)
    for name, v in values(moved).items():
        close(values(moved_ours)[name], v)
    folded = bn.fold_batch_norm(model, IMAGES)
    close(predict(folded, IMAGES), predict(model, IMAGES))
    assert bn.batch_norms(folded) == {}
    close(predict(bn.fold_batch_norm(ours, IMAGES), IMAGES), predict(model, IMAGES))


def test_float32_is_proven_in_float64():
    """In its own arithmetic ResNet-18 differs by 2e-6 in training, from rounding."""
    model = randomized(ResNet18(10, width=4)).float()
    images = IMAGES.astype("float32")
    ours = bn.replace_batch_norm(model, bn.BatchNorm, images)
    folded = bn.fold_batch_norm(ours, torch.from_numpy(images))
    assert {v.dtype for v in folded.state_dict().values()} == {torch.float32}
    close(predict(folded, images), predict(model, images), 1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_small_difference_is_refused(dtype, slightly_wrong):
    model = randomized(nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4))).to(dtype)
    for surgery in slightly_wrong(bn):
        with pytest.raises(ValueError, match=SLIGHTLY):
            surgery(model, FEATURES)


def test_the_model_is_not_touched():
    model = randomized(nn.Sequential(nn.Linear(5, 5), nn.BatchNorm1d(5), nn.Dropout()))
    before, layer, generator = values(model), model[1], torch.get_rng_state()
    for X in (FEATURES, torch.from_numpy(FEATURES)):
        bn.replace_batch_norm(model, bn.BatchNorm, X)
        bn.fold_batch_norm(model, X)
    assert model[1] is layer
    assert model.training
    assert not any(m._forward_hooks for m in model)
    assert layer.num_batches_tracked == 0
    assert_same_state(values(model), before)
    assert torch.equal(torch.get_rng_state(), generator)


@pytest.mark.parametrize("frozen", [None, "affine", "all"])
def test_flags_and_modes_are_kept(frozen):
    model = nn.Sequential(bn.BatchNorm(5, frozen=frozen), nn.BatchNorm1d(5))
    model[1].weight.requires_grad = False
    model[0].eval()
    new = bn.replace_batch_norm(model, partial(bn.GhostBatchNorm, ghost_size=2))
    assert new[0].frozen == frozen
    assert (new[0].training, new[1].training, new.training) == (False, True, True)
    flags = [p.requires_grad for p in new.parameters()]
    assert flags == [frozen is None] * 2 + [False, True]
    if frozen != "all":
        back = bn.replace_batch_norm(new, bn.builtin)
        assert [p.requires_grad for p in back.parameters()] == flags


def test_make_may_freeze():
    model = randomized(nn.Sequential(nn.BatchNorm1d(5)))
    frozen = bn.replace_batch_norm(model, bn.FrozenBatchNorm, FEATURES, ["prediction"])
    assert frozen[0].frozen == "all"
    assert not any(p.requires_grad for p in frozen.parameters())
    assert_same_state(values(frozen), values(model))
    assert model[0].weight.requires_grad


def test_a_root_that_is_itself_one():
    model = randomized(nn.BatchNorm1d(5))
    ours = bn.replace_batch_norm(model, bn.BatchNorm, FEATURES)
    assert type(ours) is bn.BatchNorm
    assert_same_state(values(ours), values(model))
    assert list(values(ours)) == list(KINDS)


class Twice(nn.Module):
    """A batch norm that is called twice, and held in a list besides."""

    def __init__(self):
        super().__init__()
        self.first, self.norm, self.alias = nn.Linear(5, 5), nn.BatchNorm1d(5), None
        self.block = nn.Sequential(nn.Linear(5, 5), self.norm)
        self.plain_list = [self.norm]

    def forward(self, X):
        return self.block(self.plain_list[0](self.first(X)))


def test_a_shared_one_stays_one():
    model = randomized(Twice())
    ours = bn.replace_batch_norm(model, bn.BatchNorm, FEATURES)
    assert list(bn.batch_norms(ours)) == ["norm"]
    assert ours.norm is ours.block[1] is ours.plain_list[0]
    close(predict(ours, FEATURES), predict(model, FEATURES))


def test_tied_parameters_stay_tied():
    model = randomized(nn.Sequential(nn.BatchNorm1d(5), nn.BatchNorm1d(5)))
    model[1].weight = model[0].weight
    ours = bn.replace_batch_norm(model, bn.BatchNorm, FEATURES)
    assert ours[0].gamma is ours[1].gamma
    assert ours[0].gamma is not model[0].weight


@pytest.mark.parametrize("make", [bn.BatchNorm, bn.builtin])
@pytest.mark.parametrize("given", [nn.LazyBatchNorm1d, bn.BatchNorm])
def test_layers_without_sizes_stay_without(given, make):
    model = nn.Sequential(nn.LazyLinear(4), given(eps=0.1)).double()
    for p in model[1].parameters():
        p.requires_grad = False
    new = bn.replace_batch_norm(model, make, FEATURES)
    assert bn.batch_norms(new)["1"].num_features is None
    new(torch.from_numpy(FEATURES))
    found = bn.batch_norms(new)["1"]
    assert (found.num_features, found.settings["eps"]) == (4, 0.1)
    assert found.trainable == {"gamma": False, "beta": False}
    assert found.state["moving_mean"].dtype == np.float64


def test_half_precision_is_normalized_in_float32():
    model = nn.Sequential(nn.BatchNorm1d(5)).half()
    ours = bn.replace_batch_norm(model, bn.BatchNorm, FEATURES)
    assert ours[0].gamma.dtype == ours[0].moving_var.dtype == torch.float32
    assert ours[0].gamma.requires_grad
    assert ours(torch.ones(3, 5, dtype=torch.float16)).dtype == torch.float16


def test_what_a_variant_counts_besides():
    model = nn.Sequential(bn.BatchRenorm(5, momentum=None))
    model(torch.from_numpy(FEATURES).float())
    new = bn.replace_batch_norm(model, bn.BatchRenorm)
    assert (new[0].moving_count, new[0].num_updates) == (8, 1)
    native = nn.Sequential(nn.BatchNorm1d(5))
    native(torch.from_numpy(FEATURES).float())
    assert bn.replace_batch_norm(native, bn.builtin)[0].num_batches_tracked == 1


def test_the_count_of_torch_is_of_batches_and_ours_of_values():
    """The averages are kept; those of the next training start anew."""
    model = randomized(nn.Sequential(nn.BatchNorm1d(5, momentum=None)))
    ours = bn.replace_batch_norm(model, bn.BatchNorm, FEATURES)
    assert ours[0].moving_count == 0
    assert_same_state(bn.batch_norms(ours)["0"].state, bn.batch_norms(model)["0"].state)
    moved, _ = trained(ours, FEATURES)
    close(moved[0].moving_mean.numpy(), FEATURES.mean(0))


def test_variants():
    model = randomized(nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4)))
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


def test_dropout_draws_the_same():
    model = randomized(nn.Sequential(nn.Dropout(), nn.BatchNorm1d(5), nn.Dropout()))
    bn.replace_batch_norm(model, bn.BatchNorm, FEATURES)


class Several(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear, self.norm = nn.Linear(5, 4), nn.BatchNorm1d(4)

    def forward(self, X):
        Y = self.norm(self.linear(X))
        return {"Y": Y, "more": (Y + 1, [Y * 2])}


def test_a_model_with_several_outputs():
    model = randomized(Several())
    ours = bn.replace_batch_norm(model, bn.BatchNorm, FEATURES)
    bn.fold_batch_norm(ours, FEATURES)
    not_proven("prediction", bn.replace_batch_norm, model, other_eps, FEATURES)


# --- Refused -------------------------------------------------------------------------


def other_eps(*sizes, **settings):
    return bn.BatchNorm(*sizes, **(settings | {"eps": 0.5}))


def test_another_eps():
    model = randomized(nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4)))
    before = values(model)
    not_proven("prediction", bn.replace_batch_norm, model, other_eps, FEATURES)
    assert_same_state(values(model), before)


def test_a_variant_in_training():
    model = randomized(nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4)))
    make = partial(bn.GhostBatchNorm, ghost_size=4)
    not_proven("training", bn.replace_batch_norm, model, make, FEATURES)


def test_half_a_batch_norm_in_prediction():
    model = randomized(nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4)))
    replace = bn.replace_batch_norm
    not_proven("prediction", replace, model, bn.MeanOnlyBatchNorm, FEATURES)


def test_a_mode_that_there_is_not():
    refuses(
        "mode must be 'prediction' or 'training'; got 'eval'",
        bn.replace_batch_norm,
        nn.BatchNorm1d(5),
        bn.BatchNorm,
        FEATURES,
        ["eval"],
    )


def test_state_that_the_new_layer_has_not():
    def make(*sizes, **settings):
        return bn.BatchNorm(*sizes, **(settings | {"scale": False}))

    refuses(
        "1 cannot be replaced: the new layer must keep its gamma; "
        "BatchNorm has beta, moving_mean, moving_var",
        bn.replace_batch_norm,
        nn.Sequential(nn.Linear(5, 5), nn.BatchNorm1d(5)),
        make,
    )


def test_state_that_is_computed():
    model = nn.Sequential(nn.BatchNorm1d(5))
    nn.utils.parametrizations.weight_norm(model[0])
    refuses(
        "0 cannot be replaced: its weight must be a tensor of its own; it is computed",
        bn.replace_batch_norm,
        model,
        bn.BatchNorm,
    )


def test_settings_that_torch_has_not():
    model = nn.Sequential(bn.BatchNorm(5, axis=-1))
    refuses(
        "0 cannot be replaced: PyTorch's layer has its channels on axis 1; got axis=-1",
        bn.replace_batch_norm,
        model,
        bn.builtin,
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"axis": (1, 2)}, "has its channels on axis 1; got axis=(1, 2)"),
        ({"num_dims": 6}, "takes X with 2 to 5 axes; got num_dims=6"),
        (
            {"frozen": "all"},
            "predicts in .eval() alone, which .train() undoes; got frozen='all'",
        ),
        (
            {"num_features": None, "scale": False},
            "without sizes has both gamma and beta, or neither; "
            "got center=True, scale=False",
        ),
    ],
)
def test_the_built_in_says_what_it_cannot_do(arguments, message):
    arguments = {"num_features": 5, "num_dims": 4} | arguments
    refuses(f"PyTorch's layer {message}", bn.builtin, **arguments)


@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("scale", [True, False])
@pytest.mark.parametrize("statistics", ["moving", "batch"])
def test_the_built_in_with_settings_is_ours(center, scale, statistics):
    words = {"center": center, "scale": scale, "statistics": statistics}
    words |= {"axis": -1, "dtype": "float64", "correction": 1}
    X, dY = torch.from_numpy(FEATURES), torch.from_numpy(rng.normal(size=(8, 5)))
    ours, theirs = (make(5, 2, **words) for make in (bn.BatchNorm, bn.builtin))
    assert theirs.bias is None or center
    for layer in (ours, theirs):
        for name, v in exchange_names(layer).items():
            v.data.copy_(torch.linspace(1, 2, 5) + len(name))
    for training in (True, False):
        ours.train(training), theirs.train(training)
        results = []
        for layer in (ours, theirs):
            leaf = X.clone().requires_grad_()
            Y = layer(leaf)
            results.append(
                (Y, *torch.autograd.grad(Y, [leaf, *layer.parameters()], dY))
            )
        for got, want in zip(*results, strict=True):
            close(got.detach().numpy(), want.detach().numpy())


# --- Folding -------------------------------------------------------------------------

LINEAR = {
    "dense": (lambda bias: nn.Linear(4, 6, bias=bias), (7, 4)),
    "sequence": (lambda bias: nn.Linear(4, 6, bias=bias), (7, 6, 4)),
    "conv1d": (lambda bias: nn.Conv1d(4, 6, 3, bias=bias), (5, 4, 9)),
    "conv2d": (lambda bias: nn.Conv2d(4, 6, 3, 2, 1, bias=bias), (5, 4, 9, 8)),
    "conv3d": (lambda bias: nn.Conv3d(4, 6, 2, bias=bias), (5, 4, 3, 4, 5)),
    "groups": (lambda bias: nn.Conv2d(4, 6, 3, groups=2, bias=bias), (5, 4, 9, 8)),
    "depthwise": (lambda bias: nn.Conv2d(3, 6, 3, groups=3, bias=bias), (5, 3, 9, 8)),
    "transposed1d": (lambda bias: nn.ConvTranspose1d(4, 6, 3, bias=bias), (5, 4, 9)),
    "transposed": (
        lambda bias: nn.ConvTranspose2d(4, 6, 3, 2, bias=bias),
        (5, 4, 5, 4),
    ),
    "transposed groups": (
        lambda bias: nn.ConvTranspose2d(4, 6, 3, groups=2, bias=bias),
        (5, 4, 5, 4),
    ),
    "circular": (
        lambda bias: nn.Conv1d(4, 6, 3, padding=2, padding_mode="circular", bias=bias),
        (5, 4, 9),
    ),
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
    folded, before = bn.fold_batch_norm(model, X), values(model)
    close(predict(folded, X), predict(model, X))
    assert not folded.training
    assert_same_state(values(model), before)
    return folded


@pytest.mark.parametrize("kind", LINEAR)
@pytest.mark.parametrize("bias", [True, False])
def test_linear_layers(kind, bias):
    make, shape = LINEAR[kind]
    axis = -1 if kind == "sequence" else 1
    norm = bn.BatchNorm if kind == "sequence" else bn.builtin
    num_features = 6
    model = nn.Sequential(make(bias), norm(num_features, len(shape), axis=axis))
    folded = folds(randomized(model), rng.normal(size=shape))
    assert type(folded[0]) is type(model[0])
    assert type(folded[1]) is nn.Identity
    assert folded[0].bias.shape == (6,)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("scale", [True, False])
@pytest.mark.parametrize("center", [True, False])
def test_batch_norms_of_every_kind(norm, scale, center):
    layer = NORMS[norm](6, 3, center=center, scale=scale, eps=0.1)
    model = nn.Sequential(nn.Conv1d(4, 6, 3), layer, nn.ReLU())
    folds(randomized(model), rng.normal(size=(4, 4, 9)))


def test_flags_of_the_weight_are_kept():
    model = randomized(nn.Sequential(nn.Linear(5, 4, bias=False), nn.BatchNorm1d(4)))
    model[0].weight.requires_grad = False
    folded = folds(model, FEATURES)
    assert [p.requires_grad for p in folded.parameters()] == [False, False]


def test_layers_without_sizes_take_those_of_the_input():
    model = nn.Sequential(nn.LazyLinear(4), nn.LazyBatchNorm1d()).double()
    folded = bn.fold_batch_norm(model, FEATURES)
    assert folded[0].weight.shape == (4, 5)
    assert model[0].in_features == 0


class Module(nn.Module):
    """A model of the layers a, b and norm, whose forward pass is a function."""

    def __init__(self, forward, **layers):
        super().__init__()
        self.function = forward
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, X):
        return self.function(self, X)


def module(forward, **layers):
    given = {"a": nn.Linear(5, 5), "b": nn.Linear(5, 5), "norm": nn.BatchNorm1d(5)}
    return randomized(Module(forward, **(given | layers)))


def test_a_shared_weight_is_folded_in_one_layer_alone():
    model = module(lambda m, X: m.norm(m.a(X)) + m.b(X))
    model.b.weight = model.a.weight
    folded = folds(model, FEATURES)
    np.testing.assert_array_equal(folded.b.weight.detach(), model.b.weight.detach())


def test_a_linear_layer_of_another_path():
    folds(module(lambda m, X: m.b(m.norm(m.a(X)).relu())), FEATURES)


CANNOT = {
    "called twice": (
        module(lambda m, X: m.norm(m.a(m.a(X)))),
        "a must be called once; it is 2 times",
    ),
    "norm called twice": (
        module(lambda m, X: m.norm(m.a(X)) + m.norm(m.b(X))),
        "X must pass through it once; it does 2 times",
    ),
    "never called": (
        module(lambda m, X: m.a(X)),
        "X must pass through it once; it does 0 times",
    ),
    "read by a layer": (
        module(lambda m, X: (lambda Y: m.norm(Y) + m.b(Y))(m.a(X))),
        "b reads the output of a too",
    ),
    "changed in place": (
        module(lambda m, X: m.norm(m.b(m.a(X))), b=nn.ReLU(inplace=True)),
        "b reads the output of a too",
    ),
    "after an activation": (
        module(lambda m, X: m.norm(m.b(m.a(X))), b=nn.ReLU()),
        "a convolution or dense layer must come directly before it; b does",
    ),
    "after a function": (
        module(lambda m, X: m.norm(m.a(X).relu())),
        "a convolution or dense layer must come directly before it; none does",
    ),
    "statistics of the batch": (
        module(
            lambda m, X: m.norm(m.a(X)),
            norm=nn.BatchNorm1d(5, track_running_stats=False),
        ),
        "it predicts by the statistics of the batch",
    ),
    "ours by the batch": (
        module(lambda m, X: m.norm(m.a(X)), norm=bn.BatchNorm(5, statistics="batch")),
        "it predicts by the statistics of the batch",
    ),
    "another axis": (
        module(lambda m, X: m.norm(m.a(X[:, None].repeat(1, 5, 1)))),
        "its channels must be on axis 2 of its input; axis=1",
    ),
    "our other axis": (
        module(
            lambda m, X: m.norm(m.a(X[:, None].repeat(1, 3, 1))),
            norm=bn.BatchNorm((3, 5), axis=(1, 2)),
        ),
        "its channels must be on axis 2 of its input; axis=(1, 2)",
    ),
}


@pytest.mark.parametrize("case", CANNOT)
def test_what_cannot_be_folded(case):
    model, reason = CANNOT[case]
    message = f"norm cannot be folded: {reason}"
    refuses(message, bn.fold_batch_norm, model, FEATURES)


def test_layer_norm_cannot_be_folded():
    model = module(lambda m, X: m.b(m.norm(m.a(X))), b=bn.LayerNorm(5))
    refuses(
        "b cannot be folded: layer norm takes its statistics of each example",
        bn.fold_batch_norm,
        model,
        FEATURES,
    )


def test_a_root_cannot_be_folded():
    refuses(
        "BatchNorm1d cannot be folded: a convolution or dense layer must come "
        "directly before it; none does",
        bn.fold_batch_norm,
        nn.BatchNorm1d(5),
        FEATURES,
    )


@pytest.mark.parametrize("how", ["parametrized", "pruned", "by a hook"])
def test_a_weight_that_is_computed(how):
    model = module(lambda m, X: m.norm(m.a(X)))
    if how == "parametrized":
        nn.utils.parametrizations.weight_norm(model.a)
    elif how == "pruned":
        prune.l1_unstructured(model.a, "weight", 0.5)
    else:
        nn.utils.spectral_norm(model.a)
    refuses(
        "norm cannot be folded: the weight of a must be a parameter; it is computed",
        bn.fold_batch_norm,
        model,
        FEATURES,
    )


def test_the_proof_names_the_layer_whose_output_a_function_reads():
    def forward(m, X):
        X = m.first(m.a(X))
        Y = m.b(X)
        return m.norm(Y) + Y  # no layer reads Y

    model = module(forward, first=nn.BatchNorm1d(5))
    path = "norm cannot be folded: "
    not_proven("prediction", bn.fold_batch_norm, model, FEATURES, path=path)


class Rectified(nn.Linear):
    def forward(self, input):
        return super().forward(input).relu()


def test_a_linear_layer_that_does_more():
    """On one input it may answer like a linear one."""
    model = nn.Sequential(Rectified(5, 5), nn.BatchNorm1d(5))
    reason = "0 must do nothing else; Rectified has a forward of its own"
    refuses(f"1 cannot be folded: {reason}", bn.fold_batch_norm, model, FEATURES)


@pytest.mark.parametrize("at", [0, 1])
def test_hooks_would_be_lost(at):
    model = nn.Sequential(nn.Linear(5, 5), nn.BatchNorm1d(5))
    model[at].register_forward_hook(lambda layer, inputs, Y: Y * 2)
    message = "1 cannot be folded: 0 must do nothing else; it has a forward hook"
    if at == 1:
        message = (
            "1 cannot be folded: its hooks would be lost; "
            "this BatchNorm1d has a forward hook"
        )
    refuses(message, bn.fold_batch_norm, model, FEATURES)
    if at == 1:
        message = message.replace("folded", "replaced")
        refuses(message, bn.replace_batch_norm, model, bn.BatchNorm)
    state = bn.batch_norms(bn.reestimate(model, [FEATURES]))["1"].state  # it keeps them
    factor = 2 if at == 0 else 1
    linear = model[0].weight.detach().numpy(), model[0].bias.detach().numpy()
    mean = factor * (FEATURES.astype("f4") @ linear[0].T + linear[1]).mean(0)
    close(state["moving_mean"], mean, 1e-5)


@pytest.mark.parametrize("name", ["forward", "train"])
def test_an_exchanged_method(name):
    model = nn.Sequential(nn.Linear(5, 5), nn.BatchNorm1d(5))
    setattr(model[1], name, lambda *args: model[1])
    message = (
        "1 cannot be {}: it must be exactly a batch norm of its framework or of ours; "
        f"this BatchNorm1d has a {name} of its own"
    )
    refuses(message.format("folded"), bn.fold_batch_norm, model, FEATURES)
    refuses(message.format("replaced"), bn.replace_batch_norm, model, bn.BatchNorm)
    refuses(message.format("re-estimated"), bn.reestimate, model, [FEATURES])


class Fixed(nn.Sequential):
    """Its batch norms predict in training, too: it finds them by their class."""

    def train(self, mode=True):
        super().train(mode)
        for layer in self.modules():
            if isinstance(layer, nn.BatchNorm1d):
                layer.training = False
        return self


def test_a_model_whose_train_would_miss_the_new_layers():
    refuses(
        "1 cannot be replaced: `train` must put the new layer into the mode of the old "
        "one; that of Fixed does not do so for a BatchNorm",
        bn.replace_batch_norm,
        Fixed(nn.Linear(5, 5), nn.BatchNorm1d(5)),
        bn.BatchNorm,
    )
    bn.replace_batch_norm(Fixed(nn.Linear(5, 5), nn.BatchNorm1d(5)), bn.builtin)


# --- Any settings --------------------------------------------------------------------

NUMBERS = st.floats(1e-6, 1.0)
SETTINGS = st.fixed_dictionaries(
    {
        "eps": NUMBERS,
        "momentum": st.one_of(st.none(), NUMBERS),
        "dtype": st.sampled_from(["float32", "float64"]),
        "center": st.booleans(),
        "scale": st.booleans(),
        "statistics": st.sampled_from(["moving", "batch"]),
        "frozen": st.sampled_from([None, "affine"]),
    }
).filter(lambda w: w["center"] or w["scale"] or w["statistics"] == "moving")


@tried(20)
@given(SETTINGS, st.integers(2, 5), st.integers(1, 4), st.booleans())
def test_there_and_back(words, num_dims, num_features, training):
    layer = bn.builtin(num_features, num_dims, **words).train(training)
    for v in exchange_names(layer).values():
        v.data.uniform_(0.5, 2)
    shape = (5, num_features, 3, 2, 2)[:num_dims]
    X = rng.normal(size=shape)
    ours = bn.replace_batch_norm(nn.Sequential(layer), bn.BatchNorm, X)
    back = bn.replace_batch_norm(ours, bn.builtin, X)
    before, there, after = (
        bn.batch_norms(m)[path] for m, path in ((layer, ""), (ours, "0"), (back, "0"))
    )
    assert before.settings == there.settings == after.settings
    assert before.kind == after.kind
    assert before.trainable == there.trainable == after.trainable
    assert set(before.trainable.values()) <= {words["frozen"] is None}
    assert ours[0].training == back[0].training == training
    assert_same_state(after.state, before.state)
    for name, v in before.state.items():
        np.testing.assert_array_equal(there.state[name], v)


@tried(20)
@given(
    st.sampled_from(sorted(set(LINEAR) - {"sequence"})),
    st.booleans(),
    NUMBERS,
    st.sampled_from(sorted(NORMS)),
    st.integers(0, 9),
)
def test_folded_after_replaced(kind, bias, eps, norm, seed):
    make, shape = LINEAR[kind]
    model = nn.Sequential(make(bias), bn.builtin(6, len(shape), eps), nn.Tanh())
    X = rng.normal(size=shape)
    replaced = bn.replace_batch_norm(randomized(model, seed), NORMS[norm])
    close(predict(bn.fold_batch_norm(replaced, X), X), predict(replaced, X), 1e-10)
