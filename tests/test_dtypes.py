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
