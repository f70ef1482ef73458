"""SyncBatchNorm in MXNet: shards on several contexts against one joined batch."""

import numpy as np
import pytest
from conftest import load_or_skip
from tolerances import TOLERANCE

from bn_from_scratch.case import difference, make_case

bn = load_or_skip("mxnet")
mxnet = pytest.importorskip("mxnet")
replicas = pytest.importorskip("bn_from_scratch.backends.mxnet.replicas")
STEPS = 3
SHAPE = (12, 5, 4)
MASK = np.random.default_rng(2).random((12, 4)) < 0.6


def to_mxnet(array, rank=0):
    return mxnet.np.array(array, dtype=array.dtype, ctx=mxnet.cpu(rank))


def new_layer(contexts, state, cls=bn.SyncBatchNorm, **options):
    layer = cls(5, dtype="float64", **options)
    layer.initialize(ctx=contexts)
    for name, value in state.items():
        getattr(layer, name).set_data(to_mxnet(value))
    return layer


def synced(sizes, case, mask=None, contexts=None, **options):
    """What `STEPS` steps over shards of these sizes give, as one batch."""
    X, dY, state = case
    contexts = contexts or [mxnet.cpu(rank) for rank in range(len(sizes))]
    layer = new_layer(list(dict.fromkeys(contexts)), state, **options)
    cut = np.cumsum(sizes)[:-1]

    def shards(v):
        parts = zip(np.split(v, cut), contexts, strict=True)
        return [mxnet.np.array(part, dtype=v.dtype, ctx=ctx) for part, ctx in parts]

    Xs, dYs = shards(X), shards(dY)
    given = [Xs] if mask is None else [Xs, shards(mask)]
    for part in Xs:
        part.attach_grad()
    for _ in range(STEPS):
        with mxnet.autograd.record():
            Ys = replicas.run_replicas(layer, *given)
        mxnet.autograd.backward(Ys, dYs)
    parts = {"Y": Ys, "dX": [part.grad for part in Xs]}
    got = {k: np.concatenate([v.asnumpy() for v in vs]) for k, vs in parts.items()}
    for name in ("gamma", "beta"):
        gradients = getattr(layer, name).list_grad()
        got[f"d{name}"] = sum(v.asnumpy() for v in gradients)
    for name in ("moving_mean", "moving_var"):
        first, *others = (v.asnumpy() for v in getattr(layer, name).list_data())
        got[name] = first
        for other in others:  # to the last bit, or replicas would drift apart
            np.testing.assert_array_equal(other, first)
    return got


def joined(case, cls=bn.BatchNorm, mask=None, **options):
    X, dY, state = case
    layer = cls(5, dtype="float64", **options)
    call = {} if mask is None else {"mask": mask}
    mode = {"training": True, "steps": STEPS, "state": state}
    return bn.probe(layer, X, dY, **mode, **call)


def assert_one_batch(got, want):
    for name, value in got.items():
        assert difference(value, want[name]) <= TOLERANCE["float64"], name


SIZES = {
    "2": (6, 6),
    "4": (3, 3, 3, 3),
    "2 unequal": (10, 2),
    "4 unequal": (5, 1, 4, 2),
}


@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
def test_replicas_are_one_batch(sizes):
    case = make_case(SHAPE)
    assert_one_batch(synced(sizes, case, correction=1), joined(case, correction=1))


def test_one_value_per_channel_in_each_replica():
    case = make_case((4, 5))
    assert_one_batch(synced((1, 1, 1, 1), case), joined(case))


def test_valid_positions_are_counted_over_all_replicas():
    mask = MASK & (np.arange(12) < 9)[:, None]  # the last replica has none
    case = make_case(SHAPE)
    assert_one_batch(synced((6, 3, 3), case, mask=mask), joined(case, mask=mask))


def test_all_batches_are_pooled_with_momentum_none():
    case = make_case(SHAPE)
    assert_one_batch(synced((7, 5), case, momentum=None), joined(case, momentum=None))


@pytest.mark.parametrize(
    ("names", "options"),
    [
        (("sync", "renorm"), {"r_max": 1.2, "d_max": 0.3}),
        (("sync", "accumulate"), {"steps": 3}),
    ],
)
def test_with_another_variant(names, options):
    case = make_case(SHAPE)
    want = joined(case, bn.combine(names[1]), **options)
    got = synced((7, 5), case, cls=bn.combine(*names), **options)
    assert_one_batch(got, want)


def test_shards_may_lie_on_one_context():
    """The averages then move once for each shard: only Y and dX are the batch's."""
    case, here = make_case(SHAPE), mxnet.cpu()
    got = synced((7, 5), case, contexts=[here, here], momentum=0.0)
    assert_one_batch({k: got[k] for k in ("Y", "dX")}, joined(case, momentum=0.0))


def test_one_replica_is_the_core():
    case = make_case(SHAPE)
    want = joined(case)
    for name, value in synced((12,), case).items():
        np.testing.assert_array_equal(value, want[name])


def test_a_network_trains_as_on_one_context():
    """Two synchronized layers, one without sizes; the Trainer adds up gradients."""
    rng = np.random.default_rng(0)
    X, weights = rng.normal(3, 2, (11, 4)), rng.normal(size=(7, 4))
    results = []
    for sizes in ((11,), (5, 1, 3, 2)):
        contexts = [mxnet.cpu(rank) for rank in range(len(sizes))]
        net = mxnet.gluon.nn.Sequential()
        net.add(bn.SyncBatchNorm(dtype="float64"))
        net.add(mxnet.gluon.nn.Dense(7, in_units=4, dtype="float64"))
        net.add(bn.SyncBatchNorm(7, 2, dtype="float64"))
        net.initialize("zeros", ctx=contexts)
        net[1].weight.set_data(to_mxnet(weights))
        trainer = mxnet.gluon.Trainer(net.collect_params(), "sgd", {"momentum": 0.5})
        parts = zip(np.split(X, np.cumsum(sizes)[:-1]), range(len(sizes)), strict=True)
        shards = [to_mxnet(part, rank) for part, rank in parts]
        for _ in range(STEPS):
            with mxnet.autograd.record():
                Ys = replicas.run_replicas(net, shards)
                losses = [mxnet.np.square(Y[:, 0] - 2).sum() for Y in Ys]
            mxnet.autograd.backward(losses)
            trainer.step(len(X))
        parameters = net._collect_params_with_prefix()
        results.append({k: p._reduce().asnumpy() for k, p in parameters.items()})
    for name, value in results[0].items():
        np.testing.assert_allclose(results[1][name], value, rtol=1e-12, atol=1e-12)


def test_prediction_needs_no_other_replica():
    X, _, state = make_case(SHAPE)
    contexts = [mxnet.cpu(0), mxnet.cpu(1)]
    layer = new_layer(contexts, state)
    shards = [to_mxnet(X, 0), to_mxnet(X[:0], 1)]
    got = replicas.run_replicas(layer, shards)
    np.testing.assert_array_equal(got[0].asnumpy(), layer(shards[0]).asnumpy())
    assert got[1].shape == (0, 5, 4)


def test_replicas_take_over_the_mode_of_the_recording():
    """Gradients of a prediction: recorded, but not in training."""
    X, _, state = make_case(SHAPE)
    layer = new_layer([mxnet.cpu(0), mxnet.cpu(1)], state)
    shards = [to_mxnet(X[:5], 0), to_mxnet(X[5:], 1)]
    for shard in shards:
        shard.attach_grad()
    with mxnet.autograd.record(train_mode=False):
        Ys = replicas.run_replicas(layer, shards)
    mxnet.autograd.backward(Ys, train_mode=False)
    std = np.sqrt(state["moving_var"] + layer.eps)
    want = (state["gamma"] / std)[:, None] * np.ones((7, 5, 4))
    np.testing.assert_allclose(shards[1].grad.asnumpy(), want, rtol=1e-14)


def run_in_training(net, sizes):
    X, _, _ = make_case(SHAPE)
    shards = [to_mxnet(X[:size], rank) for rank, size in enumerate(sizes)]
    with mxnet.autograd.record():
        return replicas.run_replicas(net, shards)


def test_an_empty_shard_is_refused_in_training():
    layer = new_layer([mxnet.cpu(0), mxnet.cpu(1)], {})
    with pytest.raises(ValueError) as caught:
        run_in_training(layer, (4, 0))
    message = "a replica needs at least one example; got an empty shard"
    assert str(caught.value) == message


@pytest.mark.parametrize("count", [2, 4])
def test_an_error_in_one_replica_ends_all(count):
    layer = new_layer([mxnet.cpu(rank) for rank in range(count)], {})

    def net(X):
        if X.ctx.device_id == 1:
            raise KeyError("of this replica")
        return layer(X)

    with pytest.raises(KeyError, match="of this replica"):
        run_in_training(net, [3] * count)
    assert len(run_in_training(layer, [3] * count)) == count  # as good as new


@pytest.mark.parametrize("calls", [0, 2])
def test_every_replica_must_come_to_the_layer(calls):
    layer = new_layer([mxnet.cpu(rank) for rank in range(3)], {})

    def net(X):
        for _ in range(calls if X.ctx.device_id == 1 else 1):
            X = layer(X)
        return X

    message = "^not every replica came to this synchronized layer$"
    with pytest.raises(RuntimeError, match=message):
        run_in_training(net, [3, 3, 3])


def test_a_replica_alone_has_its_own_sum():
    v = mxnet.np.array([1.0, 2.0])
    assert bn.SyncBatchNorm(2).all_reduce(v) is v
