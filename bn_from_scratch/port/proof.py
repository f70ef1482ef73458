"""Run the layers of both files on the same input and compare what they answer.

Each side is the framework's own layer with the arrays as its file has them, under the
names that the backend knows: nothing here passes through the translation.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np

from bn_from_scratch import backends, lenet
from bn_from_scratch.case import expected, make_case
from bn_from_scratch.port import layers, network, words
from bn_from_scratch.port.content import EXCHANGE, Content
from bn_from_scratch.spec import unbiased, values_per_channel
from bn_from_scratch.surgery.proof import difference

DTYPES = ("float32", "float64")  # a wrong eps shows in float64 alone
TOLERANCE = {"float32": 1e-5, "float64": 1e-11}
# MXNet reads its momentum as float32, whatever the dtype: 2.4e-7 of the statistics.
MXNET_STATISTICS = 1e-6
BATCH, FIELD, IMAGES = 6, (3, 2), 16
Row = dict[str, Any]  # layer, channels, dtype, and a difference by column
COLUMNS: dict[
    str, dict[bool, tuple[str, ...]]
] = {  # of a row: the quantities of `probe` in it
    "prediction": {False: ("Y",)},
    "training": {True: ("Y",)},
    "gradients": dict.fromkeys((False, True), ("dX", "dgamma", "dbeta")),
    "statistics": {True: ("moving_mean", "moving_var")},
}


def prove_layers(
    source: Content, target: Content, variances: dict[str, np.ndarray]
) -> list[Row]:
    """A row for each batch norm and dtype, with the largest differences.

    source, target: `Content` with the same layers in the same order.  variances: the
    moving ones of the source by path, in the convention of the target.
    """
    pairs = zip(source.norms.items(), target.norms.values(), strict=True)
    groups = {}
    for (path, before), after in pairs:
        kinds = _kind(before), _kind(after)
        groups.setdefault(kinds, []).append((path, before, after))
    rows = {}
    for members in groups.values():
        paths, *sides = zip(*members, strict=True)
        given = np.concatenate([variances[path] for path in paths])
        for dtype in DTYPES:
            found = _compare((source, target), sides, given, dtype)
            sizes = [norm.size for norm in sides[0]]
            for path, size, row in zip(paths, sizes, found, strict=True):
                place = {"layer": path, "channels": size, "dtype": dtype}
                rows[path, dtype] = place | row
    return [rows[path, dtype] for path in source.norms for dtype in DTYPES]


def prove_network(
    source: Content, target: Content, variances: dict[str, np.ndarray]
) -> list[Row]:
    """A row for each other layer of both LeNets, run from the same images to the logits
    of dense3; none where one cannot run."""
    source = _with_variances(source, variances)
    frameworks = [_stand_in(source.framework, target.framework), target.framework]
    if None in frameworks:
        return []
    rng, answers = np.random.default_rng(0), []
    images = rng.uniform(0, 1, (IMAGES, *lenet.IMAGE)).astype(source.dtype)
    for content, framework in zip((source, target), frameworks, strict=True):
        answers.append(network.trainer_of(content, framework).activations(images))
    before, after = answers
    return [
        {
            "layer": name,
            "channels": shape[0],
            "dtype": source.dtype,
            "prediction": difference(before[name], after[name]),
        }
        for name, shape in lenet.SHAPES.items()
    ]


def _with_variances(content, variances):
    """The `Content` with these moving variances, by path."""
    norms = {
        path: replace(norm, state=norm.state | {"moving_var": variances[path]})
        for path, norm in content.norms.items()
    }
    return replace(content, norms=norms)


def _stand_in(framework, other):
    """Where the LeNet of a source runs: in its framework, or for our own names in any.

    None where the framework is not installed.
    """
    installed = backends.installed()
    if framework == EXCHANGE:
        return next((name for name in installed if name != other), other)
    return framework if framework in installed else None


def check(rows: Iterable[Row], frameworks: tuple[str, str]) -> None:
    """Raise ValueError for a difference above tolerance."""
    for row in rows:
        for column in COLUMNS:
            apart, allowed = row.get(column, 0.0), TOLERANCE[row["dtype"]]
            if column == "statistics" and "mxnet" in frameworks:
                allowed = max(allowed, MXNET_STATISTICS)
            if not apart <= allowed:
                raise ValueError(
                    f"{row['layer'] or 'the layer'} would differ in {row['dtype']} "
                    f"({column}) by {apart:.1e} of the largest value; more than "
                    f"{allowed:.0e}, so nothing was written"
                )


def _compare(contents, sides, variances, dtype):
    """A dict of differences for each layer of the same kind, run as one wide layer.

    A batch norm treats each channel by itself, so side by side they answer as apart.
    """
    wide = [_side_by_side(norms) for norms in sides]
    replaced = variances, None  # the target's are its own
    case = make_case((BATCH, wide[0].size, *FIELD), dtype=dtype)[:2]
    sizes = [norm.size for norm in sides[0]]
    rows = [dict.fromkeys(COLUMNS, 0.0) for _ in sizes]
    for training in (False, True):
        before, after = (
            _answer(content.framework, norm, *case, training, given)
            for content, norm, given in zip(contents, wide, replaced, strict=True)
        )
        for column, quantities in COLUMNS.items():
            for name in quantities.get(training, ()):
                if name in before and name in after:
                    apart = _by_layer(before[name], after[name], sizes)
                    for row, value in zip(rows, apart, strict=True):
                        row[column] = max(row[column], value)
    return rows


def _by_layer(before, after, sizes):
    """The differences of the layers: slices of the channel axis, or of a vector.

    That of a layer with one channel is one number, and may be near 0 by chance: it is
    related to 1 at least, the size of X and dY.
    """
    axis, cuts = min(1, before.ndim - 1), np.cumsum(sizes)[:-1]
    pairs = zip(*(np.split(v, cuts, axis) for v in (before, after)), strict=True)
    if axis == 0:
        pairs = [[np.append(v, 1) for v in pair] for pair in pairs]
    return [difference(*pair) for pair in pairs]


def _answer(framework, norm, X, dY, training, variances):
    """What the layer gives, its moving variance as if the batch's were biased.

    variances: moving ones to have instead of its own; None keeps those.
    """
    dtype = X.dtype.name
    if framework not in backends.installed():  # among them EXCHANGE
        result = _spec(framework, norm, X, dY, training, variances)
    else:
        layer, state = _loaded(framework, norm, dtype)
        if variances is not None:
            state["moving_var"] = variances
        state = {name: v.astype(dtype) for name, v in state.items()}
        probe = backends.load(framework, dtype).probe
        result = probe(layer, X, dY, training=training, state=state)
    if training and (correction := words.correction(framework, norm)):
        before = norm.state["moving_var"] if variances is None else variances
        _, momentum = norm.numbers()
        kept = (1 - momentum) * before.astype(np.float64)
        n = values_per_channel(X.shape)
        moved = (result["moving_var"] - kept) / unbiased(np.array(1.0), n, correction)
        result["moving_var"] = kept + moved
    return result


def _loaded(framework, norm, dtype):
    """The layer, and the state that it is to be given under our names."""
    layer = layers.make(framework, norm, dtype)
    if framework != "tensorflow":
        names = backends.part(framework, "builtin").NAMES
        return layer, {
            ours: norm.own[ours if norm.scratch else theirs]
            for ours, theirs in names.items()
            if (ours if norm.scratch else theirs) in norm.own
        }
    if norm.config and not norm.scratch:  # as the file describes it
        said = ("momentum", "epsilon", "center", "scale")
        layer = type(layer)(dtype=dtype, **{name: norm.config[name] for name in said})
    layer.build((None, *FIELD, norm.size))
    layer.set_weights([v.astype(dtype) for v in norm.own.values()])
    return layer, {}


def _spec(framework, norm, X, dY, training, variances):
    """The spec stands in for a framework that is not installed."""
    neutral = {"gamma": np.ones(norm.size), "beta": np.zeros(norm.size)}
    state = neutral | norm.full()
    if variances is not None:
        state["moving_var"] = variances
    setting = {
        "momentum": norm.momentum,
        "correction": words.correction(framework, norm),
    }
    options = {"training": training, "eps": norm.eps, "setting": setting}
    return expected(X, dY, state, **options)


def _side_by_side(norms):
    """Layers of the same kind as one, with the channels of all."""

    def joined(parts):
        return {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}

    state, own = joined([n.state for n in norms]), joined([n.own for n in norms])
    return replace(norms[0], state=state, own=own)


def _kind(norm):
    """What two layers must share to be run as one."""
    said = norm.config or {}
    said = [said.get(name) for name in ("momentum", "epsilon", "center", "scale")]
    said += [norm.correction]
    return (norm.scratch, norm.eps, norm.momentum, *norm.state, *norm.filled, *said)
