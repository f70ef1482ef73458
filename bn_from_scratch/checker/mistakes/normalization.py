"""Mistakes in the normalization, the scale and the shift: equations (3) and (4)."""

import numpy as np

from bn_from_scratch.checker.mistakes.mistake import Mistake

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
