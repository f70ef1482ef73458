"""JAX's transforms and exports: where the plain layer works, the fused one does."""

import numpy as np
import pytest
from conftest import load_or_skip

bn = load_or_skip("jax")
jax = pytest.importorskip("jax")
from jax import export  # noqa: E402
from jax.sharding import AxisType, NamedSharding, PartitionSpec  # noqa: E402

rng = np.random.default_rng(0)
LAYERS = bn.FusedBatchNorm, bn.BatchNorm
X, DX, W = (rng.normal(1, 2, (6, 4)) for _ in range(3))


def train(cls, X):
    layer = cls(4, dtype="float64")
    variables = layer.init(jax.random.key(0), X, training=False)
    return layer.apply(variables, X, training=True, mutable=["batch_stats"])


def loss(cls, X):
    return (train(cls, X)[0] ** 3 * W).sum()


def transformed(cls):
    """jvp, then jvp of grad, then grad of grad."""

    def Y(X):
        return train(cls, X)[0]

    gradient = jax.grad(lambda X: loss(cls, X))
    forward = jax.jvp(Y, (X,), (DX,))
    over_backward = jax.jvp(gradient, (X,), (DX,))
    return *forward, *over_backward, jax.grad(lambda X: (gradient(X) ** 2).sum())(X)


def test_fused_has_every_derivative():
    got, want = (jax.jit(transformed, static_argnums=0)(c) for c in LAYERS)
    for v, other in zip(got, want, strict=True):
        np.testing.assert_allclose(v, other, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("cls", LAYERS)
def test_the_gradient_inside_shard_map(cls):
    """With its default checks, which ask how each value varies over the mesh."""
    mesh = jax.make_mesh((1,), ("data",), axis_types=(AxisType.Auto,))
    by_rows, inner = PartitionSpec("data"), jax.grad(lambda X: loss(cls, X))
    sharded = jax.shard_map(inner, mesh=mesh, in_specs=by_rows, out_specs=by_rows)
    got = jax.jit(sharded)(X)
    np.testing.assert_allclose(got, jax.grad(lambda X: loss(cls, X))(X), atol=1e-11)


@pytest.mark.parametrize("cls", LAYERS)
def test_explicit_shards(cls):
    mesh = jax.make_mesh((1,), ("data",), axis_types=(AxisType.Explicit,))
    with jax.set_mesh(mesh):
        rows = jax.device_put(X, NamedSharding(mesh, PartitionSpec("data", None)))
        Y, _ = jax.jit(lambda X: train(cls, X))(rows)
    np.testing.assert_allclose(Y, train(bn.BatchNorm, X)[0], atol=1e-12)


@pytest.mark.parametrize("cls", LAYERS)
def test_an_exported_layer_trains_on_batches_of_any_size(cls):
    rows = jax.ShapeDtypeStruct(export.symbolic_shape("n, 4"), X.dtype)
    program = export.export(jax.jit(lambda X: train(cls, X)))(rows)
    Y, moved = export.deserialize(program.serialize()).call(X)
    want, after = train(cls, X)
    np.testing.assert_allclose(Y, want, atol=1e-12)
    jax.tree.map(np.testing.assert_allclose, moved, after)
