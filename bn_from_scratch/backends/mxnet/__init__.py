"""The backend of MXNet and Gluon; what a user sees of it is `interface`."""

from bn_from_scratch.backends.mxnet.numpy2 import import_mxnet

# For the whole process: Gluon layers take and give mx.np arrays.
import_mxnet().npx.set_np()
