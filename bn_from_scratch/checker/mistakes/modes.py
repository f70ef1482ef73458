"""Mistakes in what training and prediction use, and in when the averages move."""

from bn_from_scratch.checker.mistakes.mistake import Mistake

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
