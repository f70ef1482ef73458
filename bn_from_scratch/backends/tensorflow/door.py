"""What a batch norm of Keras lets in: X in the layer's dtype, and a mask."""

from typing import Any

import tensorflow as tf
from tensorflow import Tensor

from bn_from_scratch import checks, spec
from bn_from_scratch.backends.tensorflow.batch_norm import shape_of
from bn_from_scratch.backends.tensorflow.freezing import Freezable
from bn_from_scratch.spec import Axis


class Door(Freezable):
    """A norm that looks at X and the mask before it works on them."""

    needs_values: bool = True  # more than one per channel, in this replica
    axis: Axis

    def check_call(
        self, X: Any, training: bool = False, mask: Any = None, update: bool = True
    ) -> None:
        """Raise TypeError or ValueError unless `call` takes this."""
        self.check_shape(X.shape, X.dtype, self.needs_two(training))
        if mask is None:
            return
        shape = mask_shape(mask.shape, X.shape, self.axis)
        per_channel = [shape[a] != 1 for a in spec.kept_axes(len(shape), self.axis)]
        counts = {"moving_count", "accumulated_count"} & self.to_build.keys()
        if any(per_channel) and counts and training and not self.is_fixed():
            raise ValueError(
                "a layer that counts values has one number for all channels; "
                f"the mask has shape {tuple(mask.shape)}, axis {self.axis} in it"
            )

    def check_shape(self, shape: Any, dtype: Any, training: bool = False) -> None:
        sizes = self.num_features, self.num_dims
        checks.check_input(shape, dtype, self.axis, *sizes, training)

    def needs_two(self, training: bool) -> bool:
        """Does this call need more than one value per channel?"""
        trains = training and not self.is_fixed()
        return (trains or self.predicts_by_batch()) and self.needs_values

    def let_in(self, X: Any, training: bool, mask: Any) -> tuple[Tensor, Tensor | None]:
        """X in the compute dtype; the mask with X's axes, true where X is valid.

        `__call__` has cast X, but a wrapper (TimeDistributed) calls `call`.
        """
        self.check_call(X, training, mask)
        X = tf.cast(tf.convert_to_tensor(X), self.compute_dtype)
        if self.needs_two(training) and None in X.shape:
            n = spec.values_per_channel(shape_of(X), self.axis)
            message = "training needs more than one value per channel"
            tf.debugging.assert_none_equal(n, 1, message=message)
        if mask is None:
            return X, None
        shape = mask_shape(mask.shape, X.shape, self.axis)
        axes = spec.kept_axes(X.ndim, self.axis)
        mask = tf.reshape(tf.cast(mask, tf.bool), like(shape, shape_of(mask)))
        wide = shape_of(mask), shape_of(X)
        return X, tf.broadcast_to(mask, [wide[a not in axes][a] for a in range(X.ndim)])


def mask_shape(mask: Any, shape: Any, axis: Axis) -> tuple[int | None, ...]:
    """The mask's shape with X's axes: as ours, or else as Keras's.

    Keras's has X's first axes, or 1 in place of some: what `Embedding` and `Masking`
    send.  Where it has the channel axis, too, each channel has values of its own.
    """
    mask, shape = tuple(mask), tuple(shape)
    leading = mask + (1,) * (len(shape) - len(mask))
    try:
        checks.check_mask(mask, shape, axis)
    except ValueError:
        pairs = list(zip(leading, shape, strict=False))
        if len(leading) > len(shape) or not all(
            None in pair or pair[0] in (1, pair[1]) for pair in pairs
        ):
            raise
        return leading
    if len(mask) == len(shape):
        return mask
    given, kept = iter(mask), spec.kept_axes(len(shape), axis)
    return tuple(1 if a in kept else next(given) for a in range(len(shape)))


def like(shape: tuple[int | None, ...], sizes: Any) -> list[Any]:
    """The same shape, with tensors where a graph lacks a size."""
    unknown = (size for size in sizes if not isinstance(size, int))
    return [next(unknown) if size is None else size for size in shape]
