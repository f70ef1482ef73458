"""Mistakes in the books that a layer keeps: state, modes, checks."""

import numpy as np

from bn_from_scratch.checker.mistakes.mistake import Mistake

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
