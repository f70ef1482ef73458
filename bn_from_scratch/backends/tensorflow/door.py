"""What a batch norm of Keras lets in: X in the layer's dtype, and a mask."""

from typing import Any

import keras
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
        if mask is not None:
            checks.check_mask(mask.shape, X.shape, self.axis)

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
        if mask.ndim < X.ndim:
            mask = keras.ops.expand_dims(mask, spec.kept_axes(X.ndim, self.axis))
        return X, tf.cast(mask, tf.bool)
