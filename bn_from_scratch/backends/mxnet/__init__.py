"""The backend of MXNet and Gluon; what a user sees of it is `interface`."""

from bn_from_scratch.backends.mxnet.numpy2 import import_mxnet

import_mxnet().npx.set_np()  # Gluon layers take and give mx.np arrays
