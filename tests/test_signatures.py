"""Every layer says what it takes: `help`, `inspect` and editors show it by name."""

import inspect
from typing import TypedDict, Unpack

import pytest

from bn_from_scratch import backends, signatures

# The options of a variant's own, in order; a value for those that have no default.
OWN = {
    "AccumBatchNorm": {"steps": 2},
    "AdjustedBatchNorm": {"adjustment": (1.0, 0.0)},
    "BatchRenorm": dict.fromkeys(
        ["r_max", "d_max", "r_min", "renorm_momentum", "renorm_clipping"]
    ),
    "FrozenBatchNorm": {},
    "FusedBatchNorm": {},
    "GhostBatchNorm": {"ghost_size": 4, "order": "strided", "variance": "mean"},
    "MeanOnlyBatchNorm": {},
    "SyncBatchNorm": {},
    "TransformedBatchNorm": {
        "transform": max,
        "straight_through": True,
        "transformed": False,
    },
    "VarOnlyBatchNorm": {},
}
# How a framework names its replicas.
REPLICAS = {
    "torch": {"group": None},
    "tensorflow": {},
    "jax": {"axis_name": None, "axis_index_groups": None},
    "mxnet": {},
}
SIZES = ["num_features", "num_dims", "eps", "momentum", "dtype"]
OPTIONS = [
    *("axis", "center", "scale", "correction", "statistics", "frozen"),
    *("gamma_initializer", "beta_initializer"),
    *("moving_mean_initializer", "moving_var_initializer"),
]


def name_of(bn):
    return bn.__package__.rpartition(".")[2]


def own_options(bn, name):
    return OWN[name] | (REPLICAS[name_of(bn)] if name == "SyncBatchNorm" else {})


def parameters(cls):
    """What a class takes, in order."""
    return dict(inspect.signature(cls).parameters)


@pytest.fixture(params=OWN)
def variant(bn, request):
    return getattr(bn, request.param)


def test_the_layer_takes_its_sizes_by_place_and_the_rest_by_name(bn):
    found = parameters(bn.BatchNorm)
    assert list(found)[: len(SIZES + OPTIONS)] == SIZES + OPTIONS
    for name, p in found.items():
        by_place = p.POSITIONAL_OR_KEYWORD if name in SIZES else p.KEYWORD_ONLY
        assert p.kind == by_place, name
        assert p.default is not p.empty, name


def test_a_variant_takes_what_the_layer_takes_and_its_own(bn, variant):
    layer, found = parameters(bn.BatchNorm), parameters(variant)
    if variant is bn.FrozenBatchNorm:
        del layer["frozen"]
    assert [name for name in found if name in layer] == list(layer)
    own = own_options(bn, variant.__name__)
    assert [name for name in found if name not in layer] == list(own)
    for name in layer:  # the same default, the same type and by place if there
        assert found[name] == layer[name]
    assert all(found[name].kind == found[name].KEYWORD_ONLY for name in own)


def test_a_variant_can_be_made_of_what_its_signature_says(bn, variant):
    own = own_options(bn, variant.__name__)
    signature = inspect.signature(variant)
    given = signature.bind(6, 4, 1e-3, 0.25, "float64", correction=1, **own)
    layer = variant(*given.args, **given.kwargs)
    wanted = {"num_dims": 4, "eps": 1e-3, "momentum": 0.25, "correction": 1}
    wanted |= {k: v for k, v in own.items() if k in ("steps", "order", "transformed")}
    assert {name: getattr(layer, name) for name in wanted} == wanted
    given.apply_defaults()
    by_name = variant(**given.arguments)
    assert {name: getattr(by_name, name) for name in wanted} == wanted
    with pytest.raises(TypeError):
        signature.bind(unheard_of=1)


def test_a_combination_takes_the_options_of_all_its_variants(bn):
    found = parameters(bn.combine("renorm", "ghost"))
    names = [*OWN["BatchRenorm"], *OWN["GhostBatchNorm"]]
    assert list(found) == [*parameters(bn.BatchNorm), *names]
    layer = bn.combine("ghost", "renorm")(6, ghost_size=4, d_max=2, scale=False)
    assert (layer.num_features, layer.ghost_size, layer.d_max) == (6, 4, 2)


def test_a_frozen_layer_does_not_take_what_is_frozen(bn):
    assert "frozen" not in parameters(bn.FrozenBatchNorm)
    with pytest.raises(TypeError):
        bn.FrozenBatchNorm(6, frozen="affine")


def test_the_options_are_those_of_the_layer(bn):
    """What an editor knows of `**options`."""
    module = backends.part(name_of(bn), "layer")
    if not hasattr(module, "LayerOptions"):
        return  # a Flax module inherits its fields
    by_name = parameters(bn.BatchNorm)
    options = module.LayerOptions.__annotations__
    assert options == {
        name: p.annotation for name, p in by_name.items() if name not in SIZES
    }
    assert set(options) - set(module.FrozenOptions.__annotations__) == {"frozen"}


# --- How a signature is found: classes of no framework -------------------------------


class Layer:
    def __init_subclass__(cls):
        signatures.sign(cls, Layer)

    def __init__(self, size=None, eps=0.1, *, axis=1, kept=0):
        pass


class Kept(TypedDict, total=False):
    kept: int


class Doubled(Layer):
    def __init__(self, *args, factor=2, **options):
        super().__init__(*args, **options)


class Named(Layer):
    def __init__(self, size=None, *, label, **options: Unpack[Kept]):
        super().__init__(size, **options)


class Both(Doubled, Named):
    pass


class Fixed(Doubled):
    def __init__(self, width):
        super().__init__(width, 0.2)


class Plain(Layer):
    pass


@pytest.mark.parametrize(
    "cls, shown",
    [
        (Layer, "(size=None, eps=0.1, *, axis=1, kept=0)"),
        (Plain, "(size=None, eps=0.1, *, axis=1, kept=0)"),
        (Doubled, "(size=None, eps=0.1, *, axis=1, kept=0, factor=2)"),
        (Named, "(size=None, *, kept=0, label)"),
        (Both, "(size=None, *, kept=0, label, factor=2)"),
        (Fixed, "(width)"),
    ],
)
def test_a_class_shows_what_reaches_the_layer(cls, shown):
    assert str(inspect.signature(cls)) == shown
