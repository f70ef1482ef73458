"""The one tolerance table: largest difference relative to the largest value."""

TOLERANCE = {
    "float64": 1e-12,
    "float32": 1e-5,
    # A 16-bit output is rounded once, from 11 and 8 bits: 2^-11 and 2^-8 of a value.
    "float16": 5e-4,
    "bfloat16": 4e-3,
}
# Losses of two frameworks after some dozen steps of training, in float64.
TRAJECTORY = {"scratch": 1e-12, "builtin": 1e-10}
