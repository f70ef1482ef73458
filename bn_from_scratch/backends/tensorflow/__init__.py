"""The backend of Keras on TensorFlow; what a user sees of it is `interface`."""

from bn_from_scratch.backends.tensorflow.quiet import import_tensorflow

import_tensorflow()  # before any module that names it
