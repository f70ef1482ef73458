"""What Keras finds by its name when it reads a file."""

from typing import Any, TypeVar

import keras

Named = TypeVar("Named")


def register(named: Named) -> Named:
    """Let Keras find a class or a function of ours; a decorator."""
    registered: Any = keras.saving.register_keras_serializable("bn_from_scratch")
    return registered(named)
