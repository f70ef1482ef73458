"""Activation checkpointing, which runs a forward pass again in the backward pass."""

import sys

from tensorflow.python.ops import custom_gradient

AGAIN = "inner_recompute_grad"  # the part of tf.recompute_grad that runs in backward


def recomputing() -> bool:
    """Does tf.recompute_grad (`keras.RematScope`) run this forward pass again?

    TensorFlow tells it nowhere but on the stack, in eager code and in a graph.
    """
    frame = sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        if code.co_name == AGAIN and code.co_filename == custom_gradient.__file__:
            return True
        frame = frame.f_back
    return False
