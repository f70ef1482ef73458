"""Right and wrong answers to "Write it yourself", one text for five frameworks.

`HEADERS` gives every framework the same few words, so that one body, and one list of
mistakes planted in it, serves all.
"""

HEADERS = {
    "numpy": """
import numpy as np
CHANNEL = 1
square, sqrt, absolute, where = np.square, np.sqrt, np.abs, np.where
def mean_of(X, axes): return X.mean(axes, keepdims=True)
def sum_of(X, axes): return X.sum(axes, keepdims=True)
def stop(v): return v
def shaped(v, shape): return v.reshape(tuple(shape))
def stacked(values): return np.stack(values)
einsum = np.einsum
""",
    "torch": """
import torch
from torch import nn
CHANNEL = 1
square, sqrt, absolute, where = torch.square, torch.sqrt, torch.abs, torch.where
def mean_of(X, axes): return X.mean(axes, keepdim=True)
def sum_of(X, axes): return X.sum(axes, keepdim=True)
def stop(v): return v.detach()
def shaped(v, shape): return v.reshape(tuple(shape))
def stacked(values): return torch.stack(values)
einsum = torch.einsum
""",
    "tensorflow": """
import keras
import tensorflow as tf
CHANNEL = -1
square, sqrt, absolute, where = tf.square, tf.sqrt, tf.abs, tf.where
def mean_of(X, axes): return tf.reduce_mean(X, axes, keepdims=True)
def sum_of(X, axes): return tf.reduce_sum(X, axes, keepdims=True)
def stop(v): return tf.stop_gradient(v)
def shaped(v, shape): return tf.reshape(v, shape)
def stacked(values): return tf.stack(values)
einsum = tf.einsum
""",
    "jax": """
import flax.linen as nn
import jax
import jax.numpy as jnp
CHANNEL = -1
square, sqrt, absolute, where = jnp.square, jnp.sqrt, jnp.abs, jnp.where
def mean_of(X, axes): return X.mean(axes, keepdims=True)
def sum_of(X, axes): return X.sum(axes, keepdims=True)
def stop(v): return jax.lax.stop_gradient(v)
def shaped(v, shape): return v.reshape(tuple(shape))
def stacked(values): return jnp.stack(values)
einsum = jnp.einsum
""",
    "mxnet": """
from bn_from_scratch import mxnet as bn
from mxnet import autograd, gluon, np, npx
CHANNEL = 1
square, sqrt, absolute, where = np.square, np.sqrt, np.abs, np.where
def mean_of(X, axes): return X.mean(axes, keepdims=True)
def sum_of(X, axes): return X.sum(axes, keepdims=True)
def stop(v): return v.detach()
def shaped(v, shape): return v.reshape(tuple(shape))
def stacked(values): return np.stack(values)
einsum = np.einsum
""",
}

BODY = """
def axes_of(X):
    n = len(X.shape)
    return tuple(a for a in range(n) if a != CHANNEL % n)

def like(v, X):
    n = len(X.shape)
    return shaped(v, [-1 if a == CHANNEL % n else 1 for a in range(n)])

def count(X):
    n = 1
    for a in axes_of(X):
        n = n * int(X.shape[a])
    return n

def batch_stats(X):
    mean = mean_of(X, axes_of(X))
    var = mean_of(square(X - mean), axes_of(X))
    return shaped(mean, [-1]), shaped(var, [-1])

def normalize(X, mean, var, gamma, beta, eps):
    X_hat = (X - like(mean, X)) / sqrt(like(var, X) + eps)
    return like(gamma, X) * X_hat + like(beta, X)

def update_moving(moving_mean, moving_var, mean, var, momentum):
    moving_mean = (1 - momentum) * moving_mean + momentum * mean
    moving_var = (1 - momentum) * moving_var + momentum * var
    return moving_mean, moving_var

def batch_norm(X, gamma, beta, moving_mean, moving_var, *, training, eps, momentum):
    if not training:
        Y = normalize(X, moving_mean, moving_var, gamma, beta, eps)
        return Y, moving_mean, moving_var
    mean, var = batch_stats(X)
    Y = normalize(X, mean, var, gamma, beta, eps)
    mean, var = stop(mean), stop(var)
    moving_mean, moving_var = update_moving(moving_mean, moving_var, mean, var, momentum)
    return Y, moving_mean, moving_var

def batch_norm_backward(dY, X, gamma, eps):
    mean, var = batch_stats(X)
    std = sqrt(like(var, X) + eps)
    X_hat = (X - like(mean, X)) / std
    dbeta = sum_of(dY, axes_of(X))
    dgamma = sum_of(dY * X_hat, axes_of(X))
    n = count(X)
    dX = like(gamma, X) / std * (dY - dbeta / n - X_hat * dgamma / n)
    return dX, shaped(dgamma, [-1]), shaped(dbeta, [-1])
"""

# What is wrong: [(old, new), ...] in BODY, and the names of the mistakes made; of two
# that only one layout can have, a framework has its own.
WRONG = {
    "batch axis alone": (
        [("return tuple(a for a in range(n) if a != CHANNEL % n)", "return (0,)")],
        ["axes: batch only"],
    ),
    "axes of the other layout": (
        [
            (
                "return tuple(a for a in range(n) if a != CHANNEL % n)",
                "return (0,) if n == 2 else (0, 2, 3) if CHANNEL == -1 else (0, 1, 2)",
            ),
            ("shaped(mean, [-1]), shaped(var, [-1])", "mean, var"),
            (
                "    return shaped(v, [-1 if a == CHANNEL % n else 1 for a in range(n)])",
                "    if len(v.shape) == n: return v\n"
                "    return shaped(v, [-1 if a == CHANNEL % n else 1 for a in range(n)])",
            ),
            (
                "= update_moving(moving_mean, moving_var, mean, var, momentum)",
                "= update_moving(like(moving_mean, X), like(moving_var, X), mean, var,"
                " momentum)",
            ),
        ],
        ["axes: per image row", "axes: per image column"],
    ),
    "layer normalization": (
        [
            (
                "return tuple(a for a in range(n) if a != CHANNEL % n)",
                "return tuple(range(1, n))",
            )
        ],
        ["axes: per example"],
    ),
    "instance normalization": (
        [
            (
                "return tuple(a for a in range(n) if a != CHANNEL % n)",
                "return (0,) if n == 2 else ((1, 2) if CHANNEL == -1 else (2, 3))",
            )
        ],
        ["axes: per image and channel"],
    ),
    "one mean for all channels": (
        [
            (
                "mean = mean_of(X, axes_of(X))",
                "mean = mean_of(X, tuple(range(len(X.shape)))) + 0 * mean_of(X, axes_of(X))",
            ),
            (
                "var = mean_of(square(X - mean), axes_of(X))",
                "var = mean_of(square(X - mean), tuple(range(len(X.shape)))) + 0 * mean",
            ),
        ],
        ["axes: all"],
    ),
    "unbiased variance": (
        [
            (
                "var = mean_of(square(X - mean), axes_of(X))",
                "var = sum_of(square(X - mean), axes_of(X)) / (count(X) - 1)",
            )
        ],
        ["var: unbiased everywhere"],
    ),
    "second moment": (
        [("mean_of(square(X - mean)", "mean_of(square(X)")],
        ["var: second moment"],
    ),
    "standard deviation for variance": (
        [
            (
                "var = mean_of(square(X - mean), axes_of(X))",
                "var = sqrt(mean_of(square(X - mean), axes_of(X)))",
            )
        ],
        ["var: standard deviation"],
    ),
    "absolute deviation": (
        [("mean_of(square(X - mean)", "mean_of(absolute(X - mean)")],
        ["var: absolute deviation"],
    ),
    "sum of squares": (
        [("var = mean_of(", "var = sum_of(")],
        ["var: sum"],
    ),
    "mean of the images' variances": (
        [
            (
                "var = mean_of(square(X - mean), axes_of(X))",
                "inner = tuple(a for a in axes_of(X) if a) or (0,)\n"
                "    var = mean_of(mean_of(square(X - mean_of(X, inner)), inner), (0,))",
            )
        ],
        ["var: per image"],
    ),
    "variance of the images' means": (
        [
            (
                "var = mean_of(square(X - mean), axes_of(X))",
                "inner = tuple(a for a in axes_of(X) if a)\n"
                "    means = mean_of(X, inner) if inner else X\n"
                "    var = mean_of(square(means - mean), (0,))",
            )
        ],
        ["var: of image means"],
    ),
    "sum for mean": ([("mean = mean_of(", "mean = sum_of(")], ["mean: sum"]),
    "mean over N": (
        [
            (
                "mean = mean_of(X, axes_of(X))",
                "mean = sum_of(X, axes_of(X)) / int(X.shape[0])",
            )
        ],
        ["mean: divided by N"],
    ),
    "eps outside": (
        [
            (
                "sqrt(like(var, X) + eps)\n    return",
                "(sqrt(like(var, X)) + eps)\n    return",
            )
        ],
        ["eps: outside the root"],
    ),
    "no eps": (
        [("sqrt(like(var, X) + eps)\n    return", "sqrt(like(var, X))\n    return")],
        ["eps: missing"],
    ),
    "eps of its own": (
        [
            (
                "sqrt(like(var, X) + eps)\n    return",
                "sqrt(like(var, X) + 1e-5)\n    return",
            )
        ],
        ["eps: 1e-5 whatever is asked"],
    ),
    "eps of Keras": (
        [
            (
                "sqrt(like(var, X) + eps)\n    return",
                "sqrt(like(var, X) + 1e-3)\n    return",
            )
        ],
        ["eps: 1e-3 whatever is asked"],
    ),
    "divided by the variance": (
        [("sqrt(like(var, X) + eps)\n    return", "(like(var, X) + eps)\n    return")],
        ["divides by the variance"],
    ),
    "not divided": (
        [(" / sqrt(like(var, X) + eps)\n    return", "\n    return")],
        ["not divided"],
    ),
    "not centred": (
        [("X_hat = (X - like(mean, X)) / sqrt", "X_hat = X / sqrt")],
        ["not centred"],
    ),
    "sign of X_hat": (
        [("(X - like(mean, X)) / sqrt", "(like(mean, X) - X) / sqrt")],
        ["wrong sign"],
    ),
    "gamma and beta swapped": (
        [
            (
                "like(gamma, X) * X_hat + like(beta, X)",
                "like(beta, X) * X_hat + like(gamma, X)",
            )
        ],
        ["gamma and beta swapped"],
    ),
    "no gamma": (
        [("like(gamma, X) * X_hat + like(beta, X)", "X_hat + like(beta, X)")],
        ["gamma missing"],
    ),
    "no beta": (
        [("like(gamma, X) * X_hat + like(beta, X)", "like(gamma, X) * X_hat")],
        ["beta missing"],
    ),
    "beta scaled": (
        [
            (
                "like(gamma, X) * X_hat + like(beta, X)",
                "like(gamma, X) * (X_hat + like(beta, X))",
            )
        ],
        ["beta scaled too"],
    ),
    "momentum of the old value": (
        [
            (
                "(1 - momentum) * moving_mean + momentum * mean",
                "momentum * moving_mean + (1 - momentum) * mean",
            ),
            (
                "(1 - momentum) * moving_var + momentum * var",
                "momentum * moving_var + (1 - momentum) * var",
            ),
        ],
        ["momentum weighs the old value"],
    ),
    "momentum of the old variance": (
        [
            (
                "(1 - momentum) * moving_var + momentum * var",
                "momentum * moving_var + (1 - momentum) * var",
            )
        ],
        ["momentum weighs the old variance"],
    ),
    "momentum 0.1": (
        [("    moving_mean = (1 -", "    momentum = 0.1\n    moving_mean = (1 -")],
        ["momentum: 0.1 whatever is asked"],
    ),
    "unbiased variance stored": (
        [
            (
                "mean, var = stop(mean), stop(var)",
                "n = count(X)\n    mean, var = stop(mean), stop(var) * n / (n - 1)",
            )
        ],
        ["stored variance: unbiased"],
    ),
    "n-1 of the images stored": (
        [
            (
                "mean, var = stop(mean), stop(var)",
                "n = int(X.shape[0])\n    mean, var = stop(mean), stop(var) * n / (n - 1)",
            )
        ],
        ["stored variance: n-1 of images"],
    ),
    "standard deviation stored": (
        [
            (
                "mean, var = stop(mean), stop(var)",
                "mean, var = stop(mean), sqrt(stop(var))",
            )
        ],
        ["stored variance: standard deviation"],
    ),
    "eps stored": (
        [
            (
                "mean, var = stop(mean), stop(var)",
                "mean, var = stop(mean), stop(var) + eps",
            )
        ],
        ["stored variance: with eps"],
    ),
    "averages replaced": (
        [
            ("(1 - momentum) * moving_mean + momentum * mean", "1 * mean"),
            ("(1 - momentum) * moving_var + momentum * var", "1 * var"),
        ],
        ["moving averages: replaced"],
    ),
    "no decay": (
        [
            ("(1 - momentum) * moving_mean", "moving_mean"),
            ("(1 - momentum) * moving_var", "moving_var"),
        ],
        ["moving averages: no decay"],
    ),
    "variance not updated": (
        [("    moving_var = (1 - momentum) * moving_var + momentum * var\n", "")],
        ["moving variance: not updated"],
    ),
    "averages not updated": (
        [
            (
                "    moving_mean, moving_var = update_moving(moving_mean, moving_var, mean, var, momentum)\n",
                "",
            )
        ],
        ["moving averages: not updated"],
    ),
    "averages in the wrong order": (
        [
            (
                "momentum * var\n    return moving_mean, moving_var",
                "momentum * var\n    return moving_var, moving_mean",
            )
        ],
        ["mean and variance swapped"],
    ),
    "updated in prediction": (
        [
            (
                "        return Y, moving_mean, moving_var\n    mean, var = batch_stats(X)\n    Y",
                "        return Y, *update_moving(moving_mean, moving_var, *batch_stats(X),"
                " momentum)\n    mean, var = batch_stats(X)\n    Y",
            )
        ],
        ["updated in prediction mode"],
    ),
    "batch statistics in prediction": (
        [
            (
                "Y = normalize(X, moving_mean, moving_var, gamma",
                "Y = normalize(X, *batch_stats(X), gamma",
            )
        ],
        ["batch statistics in prediction"],
    ),
    "moving statistics in training": (
        [
            (
                "Y = normalize(X, mean, var, gamma, beta, eps)",
                "Y = normalize(X, moving_mean, moving_var, gamma, beta, eps)",
            )
        ],
        ["moving statistics in training"],
    ),
    "updated statistics in training": (
        [
            ("    Y = normalize(X, mean, var, gamma, beta, eps)\n", ""),
            (
                "var, momentum)\n    return Y, moving_mean, moving_var",
                "var, momentum)\n    Y = normalize(X, moving_mean, moving_var, gamma, beta,"
                " eps)\n    return Y, moving_mean, moving_var",
            ),
        ],
        ["updated statistics in training"],
    ),
    "always training": (
        [("if not training:", "if False:")],
        ["training ignored: always training"],
    ),
    "never training": (
        [("if not training:", "if True:")],
        ["training ignored: never training"],
    ),
    "training inverted": (
        [("if not training:", "if training:")],
        ["training inverted"],
    ),
    "no mean term": (
        [("(dY - dbeta / n - X_hat", "(dY - X_hat")],
        ["backward: mean term missing"],
    ),
    "no variance term": (
        [(" - X_hat * dgamma / n)", ")")],
        ["backward: variance term missing"],
    ),
    "terms not divided": (
        [("dbeta / n - X_hat * dgamma / n", "dbeta - X_hat * dgamma")],
        ["backward: not divided by n"],
    ),
    "terms divided by N": (
        [("    n = count(X)\n    dX", "    n = int(X.shape[0])\n    dX")],
        ["backward: divided by N"],
    ),
    "sign of the variance term": (
        [("- X_hat * dgamma / n", "+ X_hat * dgamma / n")],
        ["backward: wrong sign of the variance term"],
    ),
    "no gamma in dX": (
        [("dX = like(gamma, X) / std", "dX = 1 / std")],
        ["backward: gamma missing in dX"],
    ),
    "no std in dX": (
        [("dX = like(gamma, X) / std", "dX = like(gamma, X)")],
        ["backward: std missing in dX"],
    ),
    "dgamma of X": (
        [
            ("sum_of(dY * X_hat", "sum_of(dY * X"),
            ("X_hat * dgamma / n)", "X_hat * sum_of(dY * X_hat, axes_of(X)) / n)"),
        ],
        ["backward: dgamma of X"],
    ),
    "dbeta averaged": (
        [("shaped(dbeta, [-1])", "shaped(dbeta / n, [-1])")],
        ["backward: dbeta averaged"],
    ),
    "dgamma and dbeta swapped": (
        [
            (
                "return dX, shaped(dgamma, [-1]), shaped(dbeta, [-1])",
                "return dX, shaped(dbeta, [-1]), shaped(dgamma, [-1])",
            )
        ],
        ["backward: dgamma and dbeta swapped"],
    ),
    # Several at once.
    "eps outside, momentum of the old value": (
        [
            (
                "sqrt(like(var, X) + eps)\n    return",
                "(sqrt(like(var, X)) + eps)\n    return",
            ),
            (
                "(1 - momentum) * moving_mean + momentum * mean",
                "momentum * moving_mean + (1 - momentum) * mean",
            ),
            (
                "(1 - momentum) * moving_var + momentum * var",
                "momentum * moving_var + (1 - momentum) * var",
            ),
        ],
        ["eps: outside the root", "momentum weighs the old value"],
    ),
    "unbiased variance, beta missing, updated in prediction": (
        [
            (
                "var = mean_of(square(X - mean), axes_of(X))",
                "var = sum_of(square(X - mean), axes_of(X)) / (count(X) - 1)",
            ),
            ("like(gamma, X) * X_hat + like(beta, X)", "like(gamma, X) * X_hat"),
            (
                "        return Y, moving_mean, moving_var\n    mean, var = batch_stats(X)\n    Y",
                "        return Y, *update_moving(moving_mean, moving_var, *batch_stats(X),"
                " momentum)\n    mean, var = batch_stats(X)\n    Y",
            ),
        ],
        ["var: unbiased everywhere", "beta missing", "updated in prediction mode"],
    ),
    "eps outside, no beta": (  # of one output: neither alone explains any
        [
            (
                "sqrt(like(var, X) + eps)\n    return",
                "(sqrt(like(var, X)) + eps)\n    return",
            ),
            ("like(gamma, X) * X_hat + like(beta, X)", "like(gamma, X) * X_hat"),
        ],
        ["eps: outside the root", "beta missing"],
    ),
    "standard deviation stored, no gamma": (
        [
            (
                "mean, var = stop(mean), stop(var)",
                "mean, var = stop(mean), sqrt(stop(var))",
            ),
            ("like(gamma, X) * X_hat + like(beta, X)", "X_hat + like(beta, X)"),
        ],
        ["stored variance: standard deviation", "gamma missing"],
    ),
}

# Where there is automatic differentiation.
WRONG_GRADIENTS = {
    "stopped at the mean": (
        [
            (
                "Y = normalize(X, mean, var, gamma",
                "Y = normalize(X, stop(mean), var, gamma",
            )
        ],
        ["gradient stopped at the mean"],
    ),
    "stopped at the variance": (
        [
            (
                "Y = normalize(X, mean, var, gamma",
                "Y = normalize(X, mean, stop(var), gamma",
            )
        ],
        ["gradient stopped at the variance"],
    ),
    "stopped at both": (
        [
            (
                "Y = normalize(X, mean, var, gamma",
                "Y = normalize(X, stop(mean), stop(var), gamma",
            )
        ],
        ["gradient stopped at the mean", "gradient stopped at the variance"],
    ),
}

# Right answers written in another way: [(old, new), ...] in BODY.
RIGHT = {
    "as it stands": [],
    "mean of squares minus square of mean": [
        (
            "mean_of(square(X - mean), axes_of(X))",
            "mean_of(square(X), axes_of(X)) - square(mean)",
        )
    ],
    "sums": [
        ("mean_of(X, axes_of(X))", "sum_of(X, axes_of(X)) / count(X)"),
        (
            "mean_of(square(X - mean), axes_of(X))",
            "sum_of(square(X - mean), axes_of(X)) / count(X)",
        ),
    ],
    "corrected two-pass": [
        (
            "    var = mean_of(",
            "    mean = mean + stop(mean_of(X - mean, axes_of(X)))\n    var = mean_of(",
        )
    ],
    "statistics with their axes kept": [
        ("return shaped(mean, [-1]), shaped(var, [-1])", "return mean, var"),
        (
            "mean, var = stop(mean), stop(var)",
            "mean, var = shaped(stop(mean), [-1]), shaped(stop(var), [-1])",
        ),
    ],
    "a factor and an offset": [
        (
            "    X_hat = (X - like(mean, X)) / sqrt(like(var, X) + eps)\n"
            "    return like(gamma, X) * X_hat + like(beta, X)",
            "    factor = gamma / sqrt(shaped(var, [-1]) + eps)\n"
            "    offset = beta - shaped(mean, [-1]) * factor\n"
            "    return X * like(factor, X) + like(offset, X)",
        )
    ],
    "steps towards the batch": [
        (
            "(1 - momentum) * moving_mean + momentum * mean",
            "moving_mean + momentum * (mean - moving_mean)",
        ),
        (
            "(1 - momentum) * moving_var + momentum * var",
            "moving_var - momentum * (moving_var - var)",
        ),
    ],
    "Welford, example by example": [
        (
            "    mean = mean_of(X, axes_of(X))\n    var = mean_of(square(X - mean), axes_of(X))\n",
            "    inner = tuple(a for a in axes_of(X) if a)\n"
            "    mean, left = 0, 0\n"
            "    for i in range(int(X.shape[0])):\n"
            "        x = X[i : i + 1]\n"
            "        own = mean_of(x, inner) if inner else x\n"
            "        spread = mean_of(square(x - own), inner) if inner else 0\n"
            "        off = own - mean\n"
            "        mean = mean + off / (i + 1)\n"
            "        left = left + spread + square(off) * i / (i + 1)\n"
            "    var = left / int(X.shape[0])\n",
        )
    ],
    "einsum": [
        (
            "    mean = mean_of(X, axes_of(X))\n    var = mean_of(square(X - mean), axes_of(X))\n",
            "    kinds = {(2, 1): 'nc->c', (2, -1): 'nc->c',"
            " (4, 1): 'nchw->c', (4, -1): 'nhwc->c'}\n"
            "    kind = kinds[len(X.shape), CHANNEL]\n"
            "    mean = einsum(kind, X) / count(X)\n"
            "    var = einsum(kind, square(X - like(mean, X))) / count(X)\n",
        )
    ],
    "a loop over the channels": [
        (
            "    mean = mean_of(X, axes_of(X))\n    var = mean_of(square(X - mean), axes_of(X))\n",
            "    means, variances = [], []\n"
            "    for c in range(int(X.shape[CHANNEL])):\n"
            "        own = X[:, c] if CHANNEL == 1 else X[..., c]\n"
            "        own = shaped(own, [-1])\n"
            "        means.append(shaped(mean_of(own, 0), []))\n"
            "        variances.append(shaped(mean_of(square(own - means[-1]), 0), []))\n"
            "    mean, var = stacked(means), stacked(variances)\n",
        )
    ],
    "one formula for both modes": [
        (
            "    if not training:\n"
            "        Y = normalize(X, moving_mean, moving_var, gamma, beta, eps)\n"
            "        return Y, moving_mean, moving_var\n"
            "    mean, var = batch_stats(X)\n"
            "    Y = normalize(X, mean, var, gamma, beta, eps)\n",
            "    t = float(training)\n"
            "    mean, var = batch_stats(X)\n"
            "    Y = normalize(X, t * mean + (1 - t) * moving_mean,\n"
            "                  t * var + (1 - t) * moving_var, gamma, beta, eps)\n"
            "    momentum = t * momentum\n",
        )
    ],
    "dX in one piece": [
        (
            "like(gamma, X) / std * (dY - dbeta / n - X_hat * dgamma / n)",
            "like(gamma, X) / (n * std) * (n * dY - dbeta - X_hat * dgamma)",
        )
    ],
    "dX by the chain rule": [
        (
            "    dX = like(gamma, X) / std * (dY - dbeta / n - X_hat * dgamma / n)",
            "    dX_hat = dY * like(gamma, X)\n"
            "    centred = X - like(mean, X)\n"
            "    dvar = sum_of(dX_hat * centred, axes_of(X)) * -0.5 / (std * std * std)\n"
            "    dmean = sum_of(-dX_hat / std, axes_of(X))\n"
            "    dX = dX_hat / std + dvar * 2 * centred / n + dmean / n",
        )
    ],
}


REFUSALS = """
        if len(X.shape) != self.num_dims:
            raise ValueError("another rank")
        if X.shape[CHANNEL] != self.num_features:
            raise ValueError("another number of channels")
        if training and count(X) == 1:
            raise ValueError("one value per channel")
        if count(X) == 0:
            training = False
"""
CALL = """
        Y, moving_mean, moving_var = batch_norm(
            X, GAMMA, BETA, MOVING_MEAN, MOVING_VAR,
            training=training, eps=self.eps, momentum=self.momentum)
"""
SETTINGS = """
        self.num_features, self.num_dims = num_features, num_dims
        self.eps, self.momentum = eps, momentum
"""


def _call(pattern):
    """CALL with the four arrays where a framework keeps them."""
    call = CALL
    for name in ("GAMMA", "BETA", "MOVING_MEAN", "MOVING_VAR"):
        call = call.replace(f"{name},", pattern.format(name.lower()) + ",")
    return call


LAYERS = {
    "numpy": f"""
class BatchNorm:
    def __init__(self, num_features, num_dims, eps=1e-5, momentum=0.1):
        {SETTINGS}
        self.gamma, self.beta = np.ones(num_features), np.zeros(num_features)
        self.moving_mean = np.zeros(num_features)
        self.moving_var = np.ones(num_features)

    def __call__(self, X, training):
        {REFUSALS}
        {_call("self.{}")}
        self.moving_mean, self.moving_var = moving_mean, moving_var
        return Y
""",
    "torch": f"""
class BatchNorm(nn.Module):
    def __init__(self, num_features, num_dims, eps=1e-5, momentum=0.1):
        super().__init__()
        {SETTINGS}
        self.gamma = nn.Parameter(torch.ones(num_features))
        self.beta = nn.Parameter(torch.zeros(num_features))
        self.register_buffer("moving_mean", torch.zeros(num_features))
        self.register_buffer("moving_var", torch.ones(num_features))

    def forward(self, X):
        training = self.training
        {REFUSALS}
        {_call("self.{}")}
        self.moving_mean, self.moving_var = moving_mean, moving_var
        return Y
""",
    "tensorflow": f"""
class BatchNorm(keras.layers.Layer):
    def __init__(self, num_features, num_dims, eps=1e-5, momentum=0.1, **kwargs):
        super().__init__(**kwargs)
        {SETTINGS}
        C = (num_features,)
        self.gamma = self.add_weight(shape=C, initializer="ones")
        self.beta = self.add_weight(shape=C, initializer="zeros")
        self.moving_mean = self.add_weight(
            shape=C, initializer="zeros", trainable=False)
        self.moving_var = self.add_weight(
            shape=C, initializer="ones", trainable=False)

    def call(self, X, training=False):
        training = training and self.trainable
        {REFUSALS}
        {_call("self.{}.value")}
        if training:
            self.moving_mean.assign(moving_mean)
            self.moving_var.assign(moving_var)
        return Y
""",
    "jax": f"""
class BatchNorm(nn.Module):
    num_features: int
    num_dims: int
    eps: float = 1e-5
    momentum: float = 0.1

    @nn.compact
    def __call__(self, X, training):
        C = (self.num_features,)
        gamma = self.param("gamma", nn.initializers.ones, C)
        beta = self.param("beta", nn.initializers.zeros, C)
        mean = self.variable("batch_stats", "moving_mean", jnp.zeros, C)
        var = self.variable("batch_stats", "moving_var", jnp.ones, C)
        {REFUSALS}
        {
        CALL.replace("GAMMA", "gamma")
        .replace("BETA", "beta")
        .replace("MOVING_MEAN", "mean.value")
        .replace("MOVING_VAR", "var.value")
    }
        if training and not self.is_initializing():
            mean.value, var.value = moving_mean, moving_var
        return Y
""",
    "mxnet": f"""
class BatchNorm(gluon.Block):
    def __init__(self, num_features, num_dims, eps=1e-5, momentum=0.1):
        super().__init__()
        {SETTINGS}
        C = (num_features,)
        self.gamma = self.params.get("gamma", shape=C, init="ones")
        self.beta = self.params.get("beta", shape=C, init="zeros")
        self.moving_mean = self.params.get(
            "moving_mean", shape=C, init="zeros", grad_req="null")
        self.moving_var = self.params.get(
            "moving_var", shape=C, init="ones", grad_req="null")

    def forward(self, X):
        training = autograd.is_training()
        {REFUSALS}
        {_call("self.{}.data()")}
        if training:
            self.moving_mean.set_data(moving_mean)
            self.moving_var.set_data(moving_var)
        return Y
""",
}

# What is wrong with a layer: changes in BODY or in LAYERS, and the mistakes made.
# Each list of changes is tried where the framework's layer has the old text.
WRONG_LAYERS = {
    "momentum default of the others": (
        [
            ("momentum=0.1", "momentum=0.9"),
            ("momentum: float = 0.1", "momentum: float = 0.9"),
        ],
        ["momentum weighs the old value"],
    ),
    "eps default of Keras": (
        [("eps=1e-5", "eps=1e-3"), ("eps: float = 1e-5", "eps: float = 1e-3")],
        ["eps: 1e-3 whatever is asked"],
    ),
    "any rank": (
        [("if len(X.shape) != self.num_dims:", "if False:")],
        ["accepts another rank"],
    ),
    "any number of channels": (
        [("if X.shape[CHANNEL] != self.num_features:", "if False:")],
        ["accepts another number of channels"],
    ),
    "one value": (
        [("if training and count(X) == 1:", "if False:")],
        ["accepts one value per channel"],
    ),
    "gamma 0": (
        [
            (
                "self.gamma, self.beta = np.ones(num_features)",
                "self.gamma, self.beta = np.zeros(num_features)",
            ),
            (
                "nn.Parameter(torch.ones(num_features))",
                "nn.Parameter(torch.zeros(num_features))",
            ),
            (
                'self.gamma = self.add_weight(shape=C, initializer="ones")',
                'self.gamma = self.add_weight(shape=C, initializer="zeros")',
            ),
            ('"gamma", nn.initializers.ones', '"gamma", nn.initializers.zeros'),
            ('"gamma", shape=C, init="ones"', '"gamma", shape=C, init="zeros"'),
        ],
        ["gamma starts at 0"],
    ),
    "moving variance 0": (
        [
            ("self.moving_var = np.ones(", "self.moving_var = np.zeros("),
            ('"moving_var", torch.ones(', '"moving_var", torch.zeros('),
            (
                'shape=C, initializer="ones", trainable',
                'shape=C, initializer="zeros", trainable',
            ),
            ('"moving_var", jnp.ones', '"moving_var", jnp.zeros'),
            (
                '"moving_var", shape=C, init="ones"',
                '"moving_var", shape=C, init="zeros"',
            ),
        ],
        ["moving variance starts at 0"],
    ),
    "not saved": (
        [
            (
                'self.register_buffer("moving_mean", torch.zeros(num_features))',
                "self.moving_mean = torch.zeros(num_features)",
            ),
            (
                'self.register_buffer("moving_var", torch.ones(num_features))',
                "self.moving_var = torch.ones(num_features)",
            ),
        ],
        ["moving averages not saved"],
    ),
    "mode of the gradient": (
        [
            ("training = self.training", "training = torch.is_grad_enabled()"),
            ("training = autograd.is_training()", "training = autograd.is_recording()"),
        ],
        ["mode read from the gradient"],
    ),
    "trainable ignored": (
        [("training = training and self.trainable", "pass")],
        ["trainable=False ignored"],
    ),
    "init trains": (
        [("if training and not self.is_initializing():", "if training:")],
        ["initialization counts as a training step"],
    ),
    "an empty batch counts": (
        [("            training = False\n", "            pass\n")],
        ["empty batch"],
    ),
    "three at once": (
        [
            ("if len(X.shape) != self.num_dims:", "if False:"),
            ("if training and count(X) == 1:", "if False:"),
            (
                "sqrt(like(var, X) + eps)\n    return",
                "(sqrt(like(var, X)) + eps)\n    return",
            ),
        ],
        [
            "accepts another rank",
            "accepts one value per channel",
            "eps: outside the root",
        ],
    ),
}


def written_layer(framework, changes=()):
    """The text of an answer with a layer; None where no change applies to it."""
    text = BODY + LAYERS[framework]
    applied = [(old, new) for old, new in changes if old in text]
    if changes and not applied:
        return None
    for old, new in applied:
        text = text.replace(old, new)
    return HEADERS[framework] + text


def written(framework, changes=()):
    """The text of an answer: the body with changes, under the framework's header."""
    body = BODY
    for old, new in changes:
        if old not in body:
            raise ValueError(f"the body has no {old!r}")
        body = body.replace(old, new)
    return HEADERS[framework] + body
