"""Batch norm whose operands are transformed: fake quantization, noise, logging."""

import tensorflow as tf

from bn_from_scratch.backends.tensorflow.layer import BatchNorm, register
from bn_from_scratch.spec import TINY


class TransformedBatchNorm(BatchNorm):
    """`transform(gamma, beta, mean, var)` returns the four that are used instead.

    The moving averages follow the statistics as they were.  `transformed` switches it
    on and off at any time.  With `straight_through` the gradient passes as if it
    changed nothing: rounding has none of its own.
    """

    variant = "transform"

    def __init__(
        self, *args, transform, straight_through=False, transformed=True, **kwargs
    ):
        super().__init__(*args, **kwargs)
        self.transform, self.straight_through = transform, straight_through
        # A variable: what `fit` has traced reads it again at every step.
        self.phase = tf.Variable(transformed, trainable=False)

    @property
    def transformed(self):
        return bool(self.phase.numpy())

    @transformed.setter
    def transformed(self, transformed):
        self.phase.assign(transformed)

    def operands(self, mean, var, training):
        mean, var, gamma, beta = super().operands(mean, var, training)
        given = gamma, beta, mean, var
        made = tf.cond(self.phase, lambda: self.made(*given), lambda: given)
        gamma, beta, mean, var = made
        return mean, var, gamma, beta

    def made(self, *given):
        """The transformed four, as they are used."""
        made = tuple(self.transform(*given))
        if self.straight_through:
            pairs = zip(given, made, strict=True)
            made = tuple(v + tf.stop_gradient(new - v) for v, new in pairs)
        return made

    def arguments(self):
        names = "transform", "straight_through", "transformed"
        return super().arguments() | {name: getattr(self, name) for name in names}


@register
def fake_quantize(gamma, beta, mean, var, bits=8):
    """A transform: all four in `bits` bits, as integer arithmetic will have them."""
    return tuple(quantize(v, bits) for v in (gamma, beta, mean, var))


def quantize(v, bits):
    """v on a grid of 2^bits - 1 values around 0, its largest on the edge."""
    step = tf.maximum(tf.reduce_max(tf.abs(v)), TINY) / (2 ** (bits - 1) - 1)  # (23)
    return step * tf.round(v / step)  # (24)
