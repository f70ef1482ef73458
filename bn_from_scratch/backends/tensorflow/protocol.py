"""What Keras asks of every layer: its variables, the shape and dtype of its output
before there is one, and a config that a file can hold."""

import numbers
from typing import Any

import keras
import tensorflow as tf

from bn_from_scratch import checks
from bn_from_scratch.backends.tensorflow.options import Initializer


class Norm(keras.Layer):
    """A layer whose output has the shape of X and the layer's compute dtype.

    A subclass says what it refuses (`check_call`, with the arguments of `call`) and
    what it was made with (`arguments`); it calls `add_parameter` and `add_statistic`
    in its constructor and `make_variables` in `build`.
    """

    num_features: int | tuple[int, ...] | None
    num_dims: int | None
    to_build: dict[str, dict[str, Any]]

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.supports_masking: bool = True
        self.to_build = {}

    # --- Variables -----------------------------------------------------------------

    def add_parameter(self, name: str, initializer: Initializer | None) -> None:
        """A learned [C]; with None there is none."""
        setattr(self, name, None)
        if initializer is not None:
            settings = "regularizer", "constraint"
            settings = {s: getattr(self, f"{name}_{s}", None) for s in settings}
            self.to_build[name] = settings | {"initializer": initializer}

    def add_statistic(self, name: str, initializer: Initializer, **kwargs: Any) -> None:
        """A [C] that is state, but not learned."""
        # Keras's default aggregation lets the averages of replicas drift apart.
        kwargs |= {"trainable": False, "aggregation": "mean"}
        self.to_build[name] = kwargs | {"initializer": initializer}

    def add_scalar(self, name: str) -> None:
        """A number that is state, from 0."""
        self.add_statistic(name, 0, shape=())

    def make_variables(self, dtype: str) -> None:
        """Make what was added, of the sizes `num_features`."""
        shape = checks.tuple_of(self.num_features)
        settings = {"shape": shape, "dtype": dtype, "autocast": False}
        for name, own in self.to_build.items():
            own = settings | own
            if isinstance(own["initializer"], numbers.Number):
                # Keras's Constant would round it to float32 on the way.
                own["initializer"] = tf.constant_initializer(own["initializer"])
            setattr(self, name, self.add_weight(name=name, **own))

    # --- The output before there is one --------------------------------------------

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        """That of X.  ValueError if the layer does not take it."""
        self.check_shape(input_shape, self.compute_dtype)
        return tuple(input_shape)

    def compute_output_spec(self, X: Any, *args: Any, **kwargs: Any) -> Any:
        """Shape and dtype of what `call` returns, which is not run for it."""
        self.check_call(X, *args, **kwargs)
        return keras.KerasTensor(X.shape, self.compute_dtype)

    # --- Files ---------------------------------------------------------------------

    def get_config(self) -> dict[str, Any]:
        to_file, arguments = keras.saving.serialize_keras_object, self.arguments()
        config = {name: to_file(value) for name, value in arguments.items()}
        return super().get_config() | config

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        from_file = keras.saving.deserialize_keras_object
        own = {name: from_file(value) for name, value in config.items()}
        # JSON makes a list of a tuple.
        own = {k: tuple(v) if isinstance(v, list) else v for k, v in own.items()}
        return super().from_config(own)


def initializer_of(value: Initializer) -> Any:
    """A number stays one; of all else Keras makes its initializer."""
    return value if isinstance(value, numbers.Number) else keras.initializers.get(value)
