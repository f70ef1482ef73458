"""The one tolerance table: largest difference relative to the largest value."""

TOLERANCE = {
    "float64": 1e-12,
    "float32": 1e-5,
    # A 16-bit output is rounded once: 2^-11 and 2^-9 of the largest value.
    "float16": 6e-4,
    "bfloat16": 3e-3,
    # The variance of a built-in layer is one long float32 sum (CONVENTIONS, trap 1).
    "float32 built-in": 1e-4,
}
# Losses of two frameworks after some dozen steps of training, in float64.
TRAJECTORY = {"scratch": 1e-12, "builtin": 1e-10}
