"""The backend of JAX and Flax; what a user sees of it is `interface`."""

import os

# JAX takes three quarters of a GPU's memory at once unless told to share it.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
