"""Mistakes in the mean and the variance of the batch: equations (1) and (2)."""

import numpy as np

from bn_from_scratch.checker.mistakes.mistake import Mistake


def _ratio(X, axes):
    n = np.prod([X.shape[a] for a in axes])
    return n / max(n - 1, 1)


def _var_within(X, axes):
    """The mean over the examples of each one's own variance; of rows: the variance."""
    inner = tuple(a for a in axes if a != 0)
    if not inner:
        return np.square(X - X.mean(axes, keepdims=True)).mean(axes, keepdims=True)
    own = np.square(X - X.mean(inner, keepdims=True)).mean(inner, keepdims=True)
    return own.mean(0, keepdims=True)


def _var_between(X, mean, axes):
    """The variance of the examples' means; of rows: the variance."""
    inner = tuple(a for a in axes if a != 0)
    means = X.mean(inner, keepdims=True) if inner else X
    return np.square(means - mean).mean(0, keepdims=True)


def _but(ndim, channel):
    return tuple(a for a in range(ndim) if a != channel)


def _over(choose):
    """A mistake in the axes: 2-D inputs have but two, so it shows in images only."""

    def axes(ndim, channel_axis):
        return choose(ndim, channel_axis % ndim) if ndim > 2 else (0,)

    return {"axes": axes}


def _magnitude(v):
    """|v| that a complex step can pass through."""
    return v * np.sign(np.real(v))


STATISTICS = [
    Mistake(
        "axes: batch only",
        _over(lambda ndim, channel: (0,)),
        "the statistics are over the batch axis alone: every pixel of a channel has a "
        "mean of its own",
        "In an image all positions of a channel share one mean and one variance: "
        "average over every axis but the channel axis.",
    ),
    Mistake(
        "axes: per image row",
        _over(lambda ndim, c: (0, *range(2, ndim)) if c == ndim - 1 else _but(ndim, c)),
        "one mean per image row: you reduced axes (0, 2, 3) of a channels-last array",
        "The channels are on the last axis here: average over (0, 1, 2).",
    ),
    Mistake(
        "axes: per image column",
        _over(lambda ndim, c: tuple(range(ndim - 1)) if c == 1 else _but(ndim, c)),
        "one mean per image column: you reduced axes (0, 1, 2) of a channels-first "
        "array",
        "The channels are on axis 1 here: average over (0, 2, 3).",
    ),
    Mistake(
        "axes: per example",
        {"axes": lambda ndim, channel_axis: tuple(range(1, ndim))},
        "the statistics are taken over each example, not over the batch: this is layer "
        "normalization",
        "Batch normalization averages over the examples: axis 0 belongs to the sum.",
    ),
    Mistake(
        "axes: per image and channel",
        _over(lambda ndim, c: tuple(a for a in range(1, ndim) if a != c)),
        "every image has statistics of its own in each channel: this is instance "
        "normalization",
        "Average over the batch axis too.",
    ),
    Mistake(
        "axes: the channel axis",
        {"axes": lambda ndim, channel_axis: (channel_axis % ndim,)},
        "the statistics are taken over the channel axis: the channels are mixed, and "
        "every position has its own mean",
        "The channel axis is the one axis that is not averaged over.",
    ),
    Mistake(
        "axes: all",
        {"axes": lambda ndim, channel_axis: tuple(range(ndim))},
        "one mean and one variance for all channels together",
        "Keep the channel axis out of the sum: C channels have C means.",
    ),
    Mistake(
        "var: unbiased everywhere",
        {
            "var": lambda X, m, axes: (
                np.square(X - m).mean(axes, keepdims=True) * _ratio(X, axes)
            )
        },
        "the variance is n/(n-1) times the expected one: it is divided by n-1",
        "Batch normalization divides by n, the biased variance; look for the default "
        "of your framework's variance (unbiased, ddof or correction).",
    ),
    Mistake(
        "var: second moment",
        {"var": lambda X, m, axes: np.square(X).mean(axes, keepdims=True)},
        "the variance is the mean of X squared: the mean was not subtracted before "
        "squaring",
        "var = mean((X - mean)^2), equation (2).",
    ),
    Mistake(
        "var: standard deviation",
        {"var": lambda X, m, axes: np.sqrt(np.square(X - m).mean(axes, keepdims=True))},
        "what is called the variance is the standard deviation: a square root too "
        "early",
        "Leave the root to the normalization, where eps is added before it.",
    ),
    Mistake(
        "var: absolute deviation",
        {"var": lambda X, m, axes: _magnitude(X - m).mean(axes, keepdims=True)},
        "the variance is the mean absolute deviation: the difference to the mean is "
        "not squared",
        "var = mean((X - mean)^2), equation (2).",
    ),
    Mistake(
        "var: sum",
        {"var": lambda X, m, axes: np.square(X - m).sum(axes, keepdims=True)},
        "the variance is n times the expected one: the squares are summed, not "
        "averaged",
        "Divide by n, the number of values per channel.",
    ),
    Mistake(
        "var: per image",
        {"var": lambda X, m, axes: _var_within(X, axes)},
        "the variance is the mean of the variances of the single images: it misses "
        "the variance between their means",
        "Take the variance of all values of a channel about one mean.",
    ),
    Mistake(
        "var: of image means",
        {"var": lambda X, m, axes: _var_between(X, m, axes)},
        "the variance is that of the images' means: it misses the variance within "
        "each image",
        "Take the variance of all values of a channel about one mean.",
    ),
    Mistake(
        "mean: sum",
        {"mean": lambda X, axes: X.sum(axes, keepdims=True)},
        "the mean is n times the expected one: the values are summed, not averaged",
        "Divide by n, the number of values per channel.",
    ),
    Mistake(
        "mean: divided by N",
        {"mean": lambda X, axes: X.sum(axes, keepdims=True) / X.shape[0]},
        "the mean of images is H*W times the expected one: the sum is divided by the "
        "number of images, not of values",
        "n counts every value of a channel: N*H*W for images.",
    ),
]
