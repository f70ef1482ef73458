"""Import TensorFlow without what its C++ core writes before any log level holds."""

import contextlib
import importlib
import os
import sys
from collections.abc import Iterator
from types import ModuleType


@contextlib.contextmanager
def stderr_muted() -> Iterator[None]:
    """Send file descriptor 2 nowhere; Python's exceptions still carry their text."""
    sys.stderr.flush()
    saved = os.dup(2)
    try:
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)


def import_triton() -> None:
    """Load what PyTorch's compiler will load, if it is there, before TensorFlow.

    The other way round, torch.compile ends the process in a segmentation fault (Triton
    3.7.1, which comes with CUDA's PyTorch, after TensorFlow 2.21).
    """
    if "tensorflow" not in sys.modules:
        with contextlib.suppress(ImportError):
            importlib.import_module("triton")


def import_tensorflow() -> ModuleType:
    """The tensorflow module, sharing the memory of each GPU, with Keras on it.

    Raises ValueError where the environment puts Keras on another framework.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    keras_runs_on = os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    if keras_runs_on == "tensorflow":
        with stderr_muted():
            import_triton()
            tf = importlib.import_module("tensorflow")
            for gpu in tf.config.list_physical_devices("GPU"):
                tf.config.experimental.set_memory_growth(gpu, True)
            if os.environ["TF_CPP_MIN_LOG_LEVEL"] != "0":  # JAX's import makes it 1
                # Python's logger warns of every network trained after the fourth.
                tf.get_logger().setLevel("ERROR")
            keras_runs_on = importlib.import_module("keras").backend.backend()
    if keras_runs_on != "tensorflow":
        raise ValueError(
            "the tensorflow backend runs Keras on TensorFlow; Keras runs on "
            f"{keras_runs_on} here: set KERAS_BACKEND=tensorflow"
        )
    return tf
