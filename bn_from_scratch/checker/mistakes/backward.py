"""Mistakes in the gradients, and in the backward written by hand: (7) to (10)."""

from bn_from_scratch.checker.mistakes.mistake import Mistake
from bn_from_scratch.spec import stop_gradient

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
