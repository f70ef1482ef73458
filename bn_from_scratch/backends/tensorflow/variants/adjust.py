"""Batch norm with an adjustment before gamma and beta: noise that regularizes."""

from keras import ops

from bn_from_scratch.backends.tensorflow.layer import BatchNorm
from bn_from_scratch.backends.tensorflow.variants.renorm import scale_and_shift


class AdjustedBatchNorm(BatchNorm):
    """Training scales and shifts X_hat before gamma and beta do.

    adjustment: a pair (scale, shift), each a number or [C]; or a function of the shape
    [C] that returns such a pair, random perhaps, at every call.
    """

    variant = "adjust"

    def __init__(self, *args, adjustment, **kwargs):
        super().__init__(*args, **kwargs)
        self.adjustment = adjustment

    def operands(self, mean, var, training):
        mean, var, gamma, beta = super().operands(mean, var, training)
        if training:
            pair = self.adjustment
            pair = pair(tuple(mean.shape)) if callable(pair) else pair
            scale, shift = (ops.convert_to_tensor(v, mean.dtype) for v in pair)
            gamma, beta = scale_and_shift(gamma, beta, scale, shift)
        return mean, var, gamma, beta

    def arguments(self):
        return super().arguments() | {"adjustment": self.adjustment}
