"""The known mistakes, as data: what each changes in the spec, and what to say about it.

To add one, add an entry: a name, the steps of `model.Steps` that the mistake replaces,
a message that says what was done, and a hint towards the right thing.  The judge tries
every entry, alone and together with others; nothing else needs to know of it.
"""

import dataclasses

import numpy as np

from bn_from_scratch.checker.model import RIGHT
from bn_from_scratch.spec import stop_gradient


@dataclasses.dataclass(frozen=True)
class Mistake:
    """One way to get batch normalization wrong."""

    name: str
    steps: dict
    message: str
    hint: str


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


def _root_of_stored(var, n, N, eps):
    return np.sqrt(var)


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

NORMALIZATION = [
    Mistake(
        "eps: outside the root",
        {"root": lambda var, eps: np.sqrt(var) + eps},
        "eps is outside the square root",
        "The denominator is sqrt(var + eps), equation (3).",
    ),
    Mistake(
        "eps: 1e-5 whatever is asked",
        {"eps": lambda eps: 1e-5},
        "eps is 1e-5 whatever the argument says",
        "Use the argument eps.",
    ),
    Mistake(
        "eps: 1e-3 whatever is asked",
        {"eps": lambda eps: 1e-3},
        "eps is 1e-3 (Keras's default) whatever is asked for",
        "Use the argument eps; its default is 1e-5.",
    ),
    Mistake(
        "eps: 1e-12 whatever is asked",
        {"eps": lambda eps: 1e-12},
        "eps is next to nothing (1e-12): a nearly constant channel is blown up",
        "Use the argument eps; its default is 1e-5.",
    ),
    Mistake(
        "eps: missing",
        {"root": lambda var, eps: np.sqrt(var)},
        "eps is missing: the denominator is sqrt(var)",
        "A constant channel has variance 0; eps keeps the quotient finite: "
        "sqrt(var + eps).",
    ),
    Mistake(
        "eps: squared",
        {"root": lambda var, eps: np.sqrt(var + eps**2)},
        "eps is squared under the root",
        "The denominator is sqrt(var + eps), equation (3).",
    ),
    Mistake(
        "divides by the variance",
        {"root": lambda var, eps: var + eps},
        "X is divided by the variance, not by its square root",
        "The denominator is sqrt(var + eps), equation (3).",
    ),
    Mistake(
        "root of the root",
        {"root": lambda var, eps: np.sqrt(np.sqrt(var + eps))},
        "the root is taken twice",
        "The denominator is sqrt(var + eps), equation (3).",
    ),
    Mistake(
        "not divided",
        {"root": lambda var, eps: np.ones_like(var)},
        "X is not divided by anything: the mean is removed, the scale is not",
        "Divide by sqrt(var + eps), equation (3).",
    ),
    Mistake(
        "not centred",
        {"centre": lambda X, mean: X},
        "the mean is not subtracted in the normalization",
        "X_hat = (X - mean) / sqrt(var + eps), equation (3).",
    ),
    Mistake(
        "wrong sign",
        {"centre": lambda X, mean: mean - X},
        "X_hat has the wrong sign: X is subtracted from the mean",
        "X_hat = (X - mean) / sqrt(var + eps), equation (3).",
    ),
    Mistake(
        "var: unbiased in the normalization",
        {"var_to_normalize": lambda var, n: var * n / (n - 1)},
        "the normalization uses the unbiased variance, n/(n-1) times the expected one",
        "Normalize by the biased variance; only PyTorch's moving variance is unbiased.",
    ),
    Mistake(
        "gamma and beta swapped",
        {"affine": lambda X_hat, gamma, beta: beta * X_hat + gamma},
        "gamma and beta are swapped",
        "Y = gamma * X_hat + beta, equation (4): gamma scales, beta shifts.",
    ),
    Mistake(
        "gamma missing",
        {"affine": lambda X_hat, gamma, beta: X_hat + beta},
        "gamma is not used",
        "Y = gamma * X_hat + beta, equation (4).",
    ),
    Mistake(
        "beta missing",
        {"affine": lambda X_hat, gamma, beta: gamma * X_hat},
        "beta is not used",
        "Y = gamma * X_hat + beta, equation (4).",
    ),
    Mistake(
        "gamma and beta missing",
        {"affine": lambda X_hat, gamma, beta: X_hat},
        "neither gamma nor beta is used: this is X_hat",
        "Y = gamma * X_hat + beta, equation (4).",
    ),
    Mistake(
        "beta scaled too",
        {"affine": lambda X_hat, gamma, beta: gamma * (X_hat + beta)},
        "beta is multiplied by gamma",
        "Scale first, then shift: gamma * X_hat + beta, equation (4).",
    ),
    Mistake(
        "beta subtracted",
        {"affine": lambda X_hat, gamma, beta: gamma * X_hat - beta},
        "beta is subtracted",
        "Y = gamma * X_hat + beta, equation (4).",
    ),
]

GRADIENTS = [
    Mistake(
        "gradient stopped at the mean",
        {"through_mean": stop_gradient},
        "the gradient does not flow through the mean",
        "The mean is a function of X: detach it only for the moving average.",
    ),
    Mistake(
        "gradient stopped at the variance",
        {"through_var": stop_gradient},
        "the gradient does not flow through the variance",
        "The variance is a function of X: detach it only for the moving average.",
    ),
]

MOVING = [
    Mistake(
        "momentum weighs the old value",
        {"momentum": lambda momentum: 1 - momentum},
        "momentum weighs the old value",
        "Here momentum is the weight of the new batch: "
        "moving = (1 - momentum) * moving + momentum * batch, equation (5). Keras, "
        "Flax and MXNet use the word for the complement.",
    ),
    Mistake(
        "momentum weighs the old variance",
        {"move_var": lambda old, new, m: m * old + (1 - m) * new},
        "momentum weighs the old value of the moving variance, but not of the mean",
        "Both averages move alike: (1 - momentum) * moving + momentum * batch.",
    ),
    Mistake(
        "momentum weighs the old mean",
        {"move_mean": lambda old, new, m: m * old + (1 - m) * new},
        "momentum weighs the old value of the moving mean, but not of the variance",
        "Both averages move alike: (1 - momentum) * moving + momentum * batch.",
    ),
    Mistake(
        "momentum: 0.1 whatever is asked",
        {"momentum": lambda momentum: 0.1},
        "momentum is 0.1 whatever the argument says",
        "Use the argument momentum.",
    ),
    Mistake(
        "momentum: 0.9 whatever is asked",
        {"momentum": lambda momentum: 0.9},
        "momentum is 0.9 whatever the argument says",
        "Use the argument momentum; it is the weight of the new batch.",
    ),
    Mistake(
        "momentum: 0.01 whatever is asked",
        {"momentum": lambda momentum: 0.01},
        "momentum is 0.01 (the default of Keras and Flax, 0.99 of the old value) "
        "whatever is asked for",
        "Use momentum 0.1, the weight of the new batch: 0.9 in their words.",
    ),
    Mistake(
        "stored variance: unbiased",
        {"stored_var": lambda var, n, N, eps: var * n / (n - 1)},
        "your moving variance takes n/(n-1) times the expected one: you stored the "
        "unbiased variance",
        "Store the biased variance, the one that normalizes (PyTorch's own layer "
        "stores the unbiased one).",
    ),
    Mistake(
        "stored variance: n-1 of images",
        {"stored_var": lambda var, n, N, eps: var * N / (N - 1)},
        "your moving variance takes N/(N-1) times the expected one, N being the number "
        "of examples",
        "Store the biased variance, the one that normalizes.",
    ),
    Mistake(
        "stored variance: standard deviation",
        {"stored_var": _root_of_stored},
        "the moving average is one of the standard deviation, not of the variance",
        "Average the variance; take the root when you normalize.",
    ),
    Mistake(
        "stored variance: with eps",
        {"stored_var": lambda var, n, N, eps: var + eps},
        "eps is stored with the moving variance, so that it is added twice in "
        "prediction",
        "Store var; eps belongs to the root alone.",
    ),
    Mistake(
        "moving averages: replaced",
        {"move_mean": lambda old, new, m: new, "move_var": lambda old, new, m: new},
        "the moving averages are replaced by the batch's statistics, not moved towards "
        "them",
        "moving = (1 - momentum) * moving + momentum * batch, equations (5) and (6).",
    ),
    Mistake(
        "moving averages: no decay",
        {
            "move_mean": lambda old, new, m: old + m * new,
            "move_var": lambda old, new, m: old + m * new,
        },
        "the old averages are not weighed down: they grow with every batch",
        "moving = (1 - momentum) * moving + momentum * batch, equations (5) and (6).",
    ),
    Mistake(
        "moving averages: away from the batch",
        {
            "move_mean": lambda old, new, m: old + m * (old - new),
            "move_var": lambda old, new, m: old + m * (old - new),
        },
        "the moving averages move away from the batch's statistics: a sign is wrong",
        "moving + momentum * (batch - moving) is the same as equation (5).",
    ),
    Mistake(
        "moving mean: not updated",
        {"move_mean": lambda old, new, m: old},
        "the moving mean is never updated",
        "Update both averages in training, equations (5) and (6).",
    ),
    Mistake(
        "moving variance: not updated",
        {"move_var": lambda old, new, m: old},
        "the moving variance is never updated",
        "Update both averages in training, equations (5) and (6).",
    ),
    Mistake(
        "moving averages: not updated",
        {"updates": lambda training: False},
        "the moving averages are never updated",
        "In training, return both averages one batch on, equations (5) and (6).",
    ),
    Mistake(
        "updated twice",
        {"updates": lambda training: 2 * training},
        "the moving averages are updated twice with every batch",
        "One batch, one update: look for a forward that runs twice (activation "
        "checkpointing does).",
    ),
    Mistake(
        "mean and variance swapped",
        {"returned": lambda mean, var: (var, mean)},
        "the mean and the variance are returned in the wrong order",
        "The mean comes first.",
    ),
]

MODES = [
    Mistake(
        "updated in prediction mode",
        {"updates": lambda training: True},
        "the moving averages are updated in prediction mode",
        "Prediction reads the moving averages and leaves them alone.",
    ),
    Mistake(
        "batch statistics in prediction",
        {"used": lambda training, batch, moving, moved: batch},
        "prediction uses the statistics of the batch: the answer for one example "
        "depends on its neighbours",
        "Normalize with moving_mean and moving_var where training is false.",
    ),
    Mistake(
        "moving statistics in training",
        {"used": lambda training, batch, moving, moved: moving},
        "training uses the moving statistics",
        "Normalize with the batch's own mean and variance where training is true.",
    ),
    Mistake(
        "updated statistics in training",
        {"used": lambda training, batch, moving, moved: moved if training else moving},
        "training normalizes with the moving averages just updated",
        "Normalize with the batch's own mean and variance where training is true.",
    ),
    Mistake(
        "training ignored: always training",
        {"mode": lambda training, recorded: True},
        "`training` is ignored: every call is treated as training",
        "Where training is false, use the moving averages and leave them alone.",
    ),
    Mistake(
        "training ignored: never training",
        {"mode": lambda training, recorded: False},
        "`training` is ignored: every call is treated as prediction, and batch "
        "statistics are never used",
        "Where training is true, use the batch's statistics and update the averages.",
    ),
    Mistake(
        "training inverted",
        {"mode": lambda training, recorded: not training},
        "`training` is read the wrong way round",
        "Where training is true, use the batch's statistics and update the averages.",
    ),
    Mistake(
        "mode read from the gradient",
        {"mode": lambda training, recorded: recorded},
        "the mode is read from whether gradients are recorded, not from `training`",
        "A gradient may be wanted in prediction and none in training: read the "
        "argument, or the layer's own mode.",
    ),
    Mistake(
        "training needs a gradient",
        {"mode": lambda training, recorded: training and recorded},
        "a training call without gradients is treated as prediction",
        "Statistics are re-estimated without gradients: only `training`, or the "
        "layer's own mode, decides.",
    ),
]

BACKWARD = [
    Mistake(
        "backward: mean term missing",
        {"mean_term": lambda dbeta, n, N: 0},
        "dX lacks the part of the mean: mean(dY) is not subtracted",
        "Shifting a channel changes nothing, so dX sums to zero, equation (9).",
    ),
    Mistake(
        "backward: variance term missing",
        {"var_term": lambda X_hat, dgamma, n, N: 0},
        "dX lacks the part of the variance: X_hat * mean(dY * X_hat) is not subtracted",
        "Scaling a channel changes (next to) nothing, equation (9).",
    ),
    Mistake(
        "backward: not divided by n",
        {
            "mean_term": lambda dbeta, n, N: dbeta,
            "var_term": lambda X_hat, dgamma, n, N: X_hat * dgamma,
        },
        "the two parts subtracted in dX are sums: they are not divided by n",
        "Divide dbeta and dgamma by the number of values per channel, equation (9).",
    ),
    Mistake(
        "backward: divided by N",
        {
            "mean_term": lambda dbeta, n, N: dbeta / N,
            "var_term": lambda X_hat, dgamma, n, N: X_hat * dgamma / N,
        },
        "the two parts subtracted in dX are divided by the number of images, not of "
        "values",
        "n counts every value of a channel: N*H*W for images.",
    ),
    Mistake(
        "backward: wrong sign of the variance term",
        {"var_term": lambda X_hat, dgamma, n, N: -X_hat * dgamma / n},
        "the part of the variance in dX has the wrong sign",
        "Both parts are subtracted, equation (9).",
    ),
    Mistake(
        "backward: gamma missing in dX",
        {"factor": lambda gamma, std: 1 / std},
        "dX lacks the factor gamma",
        "dX has the factor gamma / sqrt(var + eps), equation (10).",
    ),
    Mistake(
        "backward: std missing in dX",
        {"factor": lambda gamma, std: gamma},
        "dX is not divided by the standard deviation",
        "dX has the factor gamma / sqrt(var + eps), equation (10).",
    ),
    Mistake(
        "backward: divided by the variance",
        {"factor": lambda gamma, std: gamma / std**2},
        "dX is divided by the variance",
        "dX has the factor gamma / sqrt(var + eps), equation (10).",
    ),
    Mistake(
        "backward: dgamma of X",
        {"dgamma": lambda dY, X, X_hat, S, n: S(dY * X)},
        "dgamma is the sum of dY * X: X is not normalized",
        "dgamma = sum(dY * X_hat), equation (8).",
    ),
    Mistake(
        "backward: dgamma without dY",
        {"dgamma": lambda dY, X, X_hat, S, n: S(X_hat)},
        "dgamma does not depend on dY",
        "dgamma = sum(dY * X_hat), equation (8).",
    ),
    Mistake(
        "backward: dgamma averaged",
        {"dgamma": lambda dY, X, X_hat, S, n: S(dY * X_hat) / n},
        "dgamma is a mean, n times too small",
        "gamma acts on every value: its gradient is the sum, equation (8).",
    ),
    Mistake(
        "backward: dbeta averaged",
        {"dbeta": lambda dY, S, n: S(dY) / n},
        "dbeta is a mean, n times too small",
        "beta acts on every value: its gradient is the sum, equation (7).",
    ),
    Mistake(
        "backward: dgamma and dbeta swapped",
        {"gradients": lambda dX, dgamma, dbeta: (dX, dbeta, dgamma)},
        "dgamma and dbeta are returned in the wrong order",
        "The order is dX, dgamma, dbeta.",
    ),
]

LAYER = [
    Mistake(
        "variance in 16 bits",
        {"overflows": True},
        "the variance of a float16 input is taken in float16, where 65,504 is the "
        "largest number: it overflows, and the answer is beta",
        "Take the statistics in float32 at least; cast Y back.",
    ),
    Mistake(
        "convolutions padded",
        {"lenet_parameters": 108_238},
        "the convolutions pad their input (Flax's default is SAME): the network has "
        "108,238 parameters instead of 44,878",
        'Give every convolution padding="VALID", as the other frameworks have it.',
    ),
    Mistake(
        "changed in place",
        {"in_place": True},
        "an argument is changed in place",
        "Return new arrays: who calls the function may still need the old ones.",
    ),
    Mistake(
        "gamma starts at 0",
        {"gamma_init": np.zeros},
        "gamma starts at 0: the layer answers beta whatever it is given",
        "gamma starts at 1 and beta at 0.",
    ),
    Mistake(
        "moving variance starts at 0",
        {"moving_init": lambda C: (np.zeros(C), np.zeros(C))},
        "the moving variance starts at 0",
        "It starts at 1, so that a new layer predicts (next to) what it is given.",
    ),
    Mistake(
        "moving averages not saved",
        {"saves": False},
        "the moving averages are not saved with the layer: loaded, it predicts with "
        "mean 0 and variance 1",
        "Register them as state: a buffer (PyTorch), a non-trainable weight (Keras), a "
        'variable collection (Flax), `self.params.get(..., grad_req="null")` (Gluon).',
    ),
    Mistake(
        "initialization counts as a training step",
        {"init_trains": True},
        "the dummy batch that initializes the layer moves its averages",
        "Update the averages only in calls after the initialization.",
    ),
    Mistake(
        "trainable=False ignored",
        {"frozen_trains": True},
        "the layer trains though its `trainable` is False",
        "In Keras a frozen batch norm predicts: use `training and self.trainable`.",
    ),
    Mistake(
        "empty batch",
        {"empty_poisons": True},
        "an empty batch destroys the moving averages: they become NaN for ever",
        "A batch without examples has no statistics: leave the averages alone.",
    ),
    *(
        Mistake(f"accepts {what}", {"accepts": (what,)}, message, hint)
        for what, message, hint in (
            (
                "another rank",
                "X of another rank than num_dims is accepted",
                "Check X.ndim == num_dims, or broadcasting answers in a shape that "
                "nobody asked for.",
            ),
            (
                "one value per channel",
                "a training batch with one value per channel is accepted: its variance "
                "is 0 and the answer beta, whatever X is",
                "Raise a ValueError: training needs more than one value per channel.",
            ),
            (
                "another number of channels",
                "X with another number of channels than num_features is accepted",
                "Check the size of the channel axis: X in the other layout would "
                "otherwise be normalized over the wrong axes.",
            ),
        )
    ),
]

MISTAKES = [
    *STATISTICS,
    *NORMALIZATION,
    *GRADIENTS,
    *MOVING,
    *MODES,
    *BACKWARD,
    *LAYER,
]


def together(mistakes):
    """The steps of several mistakes at once; None where they contradict each other."""
    steps = {}
    for mistake in mistakes:
        for step, wrong in mistake.steps.items():
            if step == "accepts":
                wrong = (*steps.get(step, ()), *wrong)
            elif step in steps:
                return None
            steps[step] = wrong
    return dataclasses.replace(RIGHT, **steps)
