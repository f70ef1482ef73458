"""What of a batch norm still changes: Keras's `trainable` and our `frozen`."""

import keras

from bn_from_scratch import checks
from bn_from_scratch.backends.tensorflow.protocol import Norm


class Freezable(Norm):
    """A norm whose gamma and beta, or everything, can be fixed."""

    gamma: keras.Variable | None = None
    beta: keras.Variable | None = None

    @property
    def frozen(self) -> str | None:
        """None; "affine": gamma and beta are fixed; "all": the statistics too.

        Like `trainable`, a compiled model heeds it from its next `compile`.
        """
        return self._frozen

    @frozen.setter
    def frozen(self, frozen: str | None) -> None:
        checks.check_choice("frozen", frozen, checks.FROZEN)
        self._frozen = frozen
        self.mark_trainable()

    @keras.Layer.trainable.setter
    def trainable(self, trainable: bool) -> None:
        """Also set by a parent, which must not thaw gamma and beta."""
        keras.Layer.trainable.__set__(self, trainable)
        self.mark_trainable()

    def mark_trainable(self) -> None:
        for v in (self.gamma, self.beta):
            if v is not None:
                v.trainable = self.trainable and self.frozen is None

    def is_fixed(self) -> bool:
        """`trainable=False` of a batch norm means prediction, as in Keras's own."""
        return self.frozen == "all" or not self.trainable
