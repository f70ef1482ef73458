"""Batch norm whose operands are transformed: fake quantization, noise, logging."""

from collections.abc import Callable, Iterable
from typing import Any, Unpack

import tensorflow as tf
from tensorflow import Tensor

from bn_from_scratch.backends.tensorflow.layer import BatchNorm, Operands
from bn_from_scratch.backends.tensorflow.options import Dtype, LayerOptions
from bn_from_scratch.backends.tensorflow.registry import register
from bn_from_scratch.spec import EPS, MOMENTUM, TINY

Four = tuple[Tensor, Tensor, Tensor, Tensor]  # gamma, beta, mean, var


class TransformedBatchNorm(BatchNorm):
    """`transform(gamma, beta, mean, var)` returns the four that are used instead.

    The moving averages follow the statistics as they were.  `transformed` switches it
    on and off at any time.  With `straight_through` the gradient passes as if it
    changed nothing: rounding has none of its own.

    >>> import tensorflow as tf
    >>> layer = bn.TransformedBatchNorm(3, transform=bn.fake_quantize)
    >>> layer(tf.random.normal([8, 4, 4, 3]), training=True).shape
    TensorShape([8, 4, 4, 3])
    """

    variant = "transform"
    transform: Callable[[Tensor, Tensor, Tensor, Tensor], Iterable[Tensor]]
    straight_through: bool

    def __init__(
        self,
        num_features: int | tuple[int, ...] | None = None,
        num_dims: int | None = None,
        eps: float = EPS,
        momentum: float | None = MOMENTUM,
        dtype: Dtype = None,
        *,
        transform: Callable[[Tensor, Tensor, Tensor, Tensor], Iterable[Tensor]],
        straight_through: bool = False,
        transformed: bool = True,
        **options: Unpack[LayerOptions],
    ) -> None:
        super().__init__(num_features, num_dims, eps, momentum, dtype, **options)
        self.transform, self.straight_through = transform, straight_through
        # A variable: what `fit` has traced reads it again at every step.
        initial: Any = transformed
        self.phase: tf.Variable = tf.Variable(initial, trainable=False)

    @property
    def transformed(self) -> bool:
        return bool(self.phase.numpy())

    @transformed.setter
    def transformed(self, transformed: bool) -> None:
        self.phase.assign(transformed)

    def operands(self, mean: Tensor, var: Tensor, training: bool) -> Operands:
        mean, var, gamma, beta = super().operands(mean, var, training)
        given = gamma, beta, mean, var
        made = tf.cond(self.phase, lambda: self.made(*given), lambda: given)
        gamma, beta, mean, var = made
        return mean, var, gamma, beta

    def made(self, *given: Tensor) -> tuple[Tensor, ...]:
        """The transformed four, as they are used."""
        made = tuple(self.transform(*given))
        if self.straight_through:
            pairs = zip(given, made, strict=True)
            made = tuple(v + tf.stop_gradient(new - v) for v, new in pairs)
        return made

    def arguments(self) -> dict[str, Any]:
        names = "transform", "straight_through", "transformed"
        return super().arguments() | {name: getattr(self, name) for name in names}


@register
def fake_quantize(
    gamma: Tensor, beta: Tensor, mean: Tensor, var: Tensor, bits: int = 8
) -> Four:
    """A transform: all four in `bits` bits, as integer arithmetic will have them."""
    gamma, beta, mean, var = (quantize(v, bits) for v in (gamma, beta, mean, var))
    return gamma, beta, mean, var


def quantize(v: Tensor, bits: int) -> Tensor:
    """v on a grid of 2^bits - 1 values around 0, its largest on the edge."""
    step = tf.maximum(tf.reduce_max(tf.abs(v)), TINY) / (2 ** (bits - 1) - 1)  # (23)
    return step * tf.round(v / step)  # (24)
