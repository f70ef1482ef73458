"""X of one dtype in a layer of another; layers that are cast; what no layer takes."""

import numpy as np
import pytest
from conftest import load_or_skip
from dtype_matrix import VARIANTS, verdict

from bn_from_scratch import backends

# A part of tools/dtypes.py: X wider, narrower and half as wide as the layer.
UNEQUAL = [("float64", "float32"), ("float32", "float64"), ("float16", None)]
FEW = "core, all of it", "renorm, schedule"  # JAX compiles each anew


@pytest.mark.parametrize(("x_dtype", "layer_dtype"), UNEQUAL)
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("backend", backends.NAMES)
def test_any_dtype_in_a_layer_of_any(backend, variant, x_dtype, layer_dtype):
    if backends.missing(backend):
        pytest.skip(f"{backend} is not installed")
    if backend == "jax" and not (variant in FEW and layer_dtype == "float32"):
        pytest.skip("JAX promotes dtypes by itself; test_the_whole_matrix has it")
    assert verdict(backend, variant, x_dtype, layer_dtype) == "right"


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("backend", backends.NAMES)
def test_the_whole_matrix(backend, variant):
    from dtype_matrix import DTYPES, LAYER_DTYPES

    if backends.missing(backend):
        pytest.skip(f"{backend} is not installed")
    for x_dtype in DTYPES:
        for layer_dtype in LAYER_DTYPES:
            found = verdict(backend, variant, x_dtype, layer_dtype)
            assert found.split(":")[0] in ("right", "refused"), (x_dtype, layer_dtype)


@pytest.mark.parametrize("dtype", ["int8", "complex64", "float8_e4m3fn"])
@pytest.mark.parametrize("backend", ["torch", "jax", "mxnet"])  # Keras has a policy
def test_a_dtype_that_parameters_cannot_have(backend, dtype):
    bn = load_or_skip(backend)
    message = f"dtype must be one of float16, bfloat16, float32, float64; got {dtype}"
    for make in (bn.BatchNorm, bn.LayerNorm):
        with pytest.raises(TypeError) as caught:
            make(5, 2, dtype=dtype)
        assert str(caught.value) == message


@pytest.mark.parametrize("backend", ["torch", "jax", "mxnet"])
def test_no_dtype_is_the_default(backend):
    """NumPy's own reading of None, float64, is nobody's default here."""
    layer = load_or_skip(backend).BatchNorm(5, 2, dtype=None)
    assert str(layer.dtype).removeprefix("torch.") == "float32"


def test_x_of_8_bits():
    bn, torch = load_or_skip("torch"), pytest.importorskip("torch")
    X = torch.ones(9, 5).to(torch.float8_e4m3fn)
    with pytest.raises(TypeError) as caught:
        bn.BatchNorm(5)(X)
    assert str(caught.value) == (
        "batch norm takes floating-point X of 16 to 64 bits; "
        "X has dtype torch.float8_e4m3fn"
    )


@pytest.mark.parametrize("name", ["BatchNorm", "LayerNorm"])
def test_arrays_of_another_kind(name):
    bn, torch = load_or_skip("torch"), pytest.importorskip("torch")
    layer, X = getattr(bn, name)(5), np.ones((9, 5), "float32")
    with pytest.raises(TypeError) as caught:
        layer(X)
    wanted = "X must be a torch.Tensor; it is of type numpy.ndarray"
    assert str(caught.value) == wanted
    if name == "BatchNorm":
        with pytest.raises(TypeError) as caught:
            layer(torch.ones(9, 5), mask=np.ones(9, bool))
        assert str(caught.value) == wanted.replace("X", "the mask")


@pytest.mark.parametrize("name", ["BatchNorm", "LayerNorm"])
def test_the_arrays_of_mxnet_before_numpy(name):
    bn, mxnet = load_or_skip("mxnet"), pytest.importorskip("mxnet")
    layer = getattr(bn, name)(5)
    layer.initialize()
    with pytest.raises(TypeError) as caught:
        layer(mxnet.nd.ones((9, 5)))
    wanted = "X must be an array of mx.np (`v.as_np_ndarray()` makes one of mx.nd's)"
    assert str(caught.value) == f"{wanted}; it is of type mxnet.NDArray"
    if name == "BatchNorm":
        with pytest.raises(TypeError, match=r"^the mask must be an array of mx.np"):
            layer(mxnet.np.ones((9, 5)), mask=mxnet.nd.ones((9,)))


# --- Layers that are cast: parameters and statistics stay in float32 at least ---------

LAYERS = {
    "core": lambda bn: bn.BatchNorm(5),
    "sizes unknown": lambda bn: bn.BatchNorm(),
    "counts": lambda bn: bn.AccumBatchNorm(5, steps=2, momentum=None),
    "renorm": lambda bn: bn.BatchRenorm(renorm_momentum=0.1),
    "fused": lambda bn: bn.FusedBatchNorm(5),
    "layer norm": lambda bn: bn.LayerNorm(5),
}
LARGE = (1000 * np.random.default_rng(0).normal(size=(9, 5))).astype("float16")
TORCH_CASTS = {
    "half": lambda model, torch: model.half(),
    "bfloat16": lambda model, torch: model.bfloat16(),
    "to": lambda model, torch: model.to(torch.float16),
    "type": lambda model, torch: model.type(torch.bfloat16),
    "wide, then narrow": lambda model, torch: model.double().half(),
}


@pytest.mark.parametrize("cast", TORCH_CASTS.values(), ids=TORCH_CASTS)
@pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)
def test_a_cast_of_torch_stops_at_float32(make, cast):
    bn, torch = load_or_skip("torch"), pytest.importorskip("torch")
    layer = make(bn)
    cast(torch.nn.Sequential(layer), torch)
    assert layer(torch.tensor(LARGE)).dtype == torch.float16
    state = layer.state_dict()
    assert {v.dtype for v in state.values()} == {torch.float32}
    assert all(torch.isfinite(v).all() for v in state.values())
    assert layer.double().gamma.dtype == torch.float64


def test_a_file_of_torch_is_not_assigned_in_16_bits():
    bn, torch = load_or_skip("torch"), pytest.importorskip("torch")
    layer = bn.BatchNorm(5)
    narrow = {name: v.half() for name, v in layer.state_dict().items()}
    layer.load_state_dict(narrow, assign=True)
    assert {v.dtype for v in layer.state_dict().values()} == {torch.float32}
    assert layer.gamma.requires_grad


MXNET_CASTS = {
    "layer": lambda net: net[0].cast("float16"),
    "model": lambda net: net.cast("float16"),
    "parameter": lambda net: [p.cast("float16") for p in parameters(net)],
    "dtype": lambda net: [setattr(p, "dtype", "float16") for p in parameters(net)],
}


def parameters(net):
    return net.collect_params().values()


@pytest.mark.parametrize("cast", MXNET_CASTS.values(), ids=MXNET_CASTS)
@pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)
def test_a_cast_of_mxnet_stops_at_float32(make, cast):
    bn, mxnet = load_or_skip("mxnet"), pytest.importorskip("mxnet")
    net = mxnet.gluon.nn.Sequential()
    net.add(make(bn))
    net.initialize()
    cast(net)
    with mxnet.autograd.record():
        Y = net(mxnet.np.array(LARGE, dtype="float16"))
    assert Y.dtype == np.float16
    values = [p.data().asnumpy() for p in parameters(net)]
    assert {v.dtype.name for v in values} == {"float32"}
    assert all(np.isfinite(v).all() for v in values)


@pytest.mark.parametrize("initialized", [False, True])
def test_a_file_of_mxnet_makes_no_16_bits(tmp_path, initialized):
    bn, mxnet = load_or_skip("mxnet"), pytest.importorskip("mxnet")
    path, net = str(tmp_path / "narrow.params"), mxnet.gluon.nn.Sequential()
    names = ("gamma", "beta", "moving_mean", "moving_var")
    narrow = {f"0.{name}": mxnet.np.ones(5, dtype="float16") for name in names}
    mxnet.npx.save(path, narrow)
    net.add(bn.BatchNorm(5))
    if initialized:
        net.initialize()
    net.load_parameters(path, cast_dtype=True, dtype_source="saved")
    assert {p.data().asnumpy().dtype.name for p in parameters(net)} == {"float32"}


def test_variables_of_flax_that_were_cast_move_in_float32():
    """A float32 count goes beyond 2,048, a float16 one does not."""
    bn, jax = load_or_skip("jax"), pytest.importorskip("jax")
    layer, X = bn.BatchNorm(5, momentum=None), LARGE
    variables = layer.init(jax.random.key(0), X, training=False)
    variables["batch_stats"]["moving_count"] += 2048
    variables = jax.tree.map(lambda v: v.astype("float16"), variables)
    Y, moved = layer.apply(variables, X, training=True, mutable=["batch_stats"])
    stats = moved["batch_stats"]
    assert Y.dtype == np.float16
    assert {v.dtype for v in stats.values()} == {np.dtype("float32")}
    assert stats["moving_count"] == 2057


@pytest.mark.parametrize("policy", ["float16", "mixed_bfloat16"])
def test_a_policy_of_keras_leaves_the_statistics(policy):
    """Set later as well, and through a file with narrow values."""
    bn = load_or_skip("tensorflow")
    for layer in (bn.AccumBatchNorm(5, steps=2, dtype=policy), bn.BatchNorm(5)):
        layer.dtype_policy = policy
        layer(LARGE, training=True)
        layer.set_weights([v.clip(0, 1).astype("float16") for v in layer.get_weights()])
        assert {str(v.dtype) for v in layer.variables} == {"float32"}
