"""A network that is trained and still new.

"I trained BatchNormalization and a Dense layer for 50 steps on 256 examples whose means
are about 2.9.  The loss went from 2.69 down to 0.55, so something was learnt, but the
norm's moving_mean is still exactly [0, 0, 0, 0] and its moving_variance [1, 1, 1, 1].
What was the norm doing all the time?"

Checked by `bn check exercises/find_the_bug/b02_a_network_that_stays_new.py`.
"""

import keras
import tensorflow as tf

LEARNING_RATE = 0.1


def fit(model, X, y, steps):
    """Train a Keras classifier on the batch X, y; return the loss before each step."""
    loss_of = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    optimizer = keras.optimizers.SGD(LEARNING_RATE)
    losses = []
    for _ in range(steps):
        with tf.GradientTape() as tape:
            loss = loss_of(y, model(X, training=True))
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(
            zip(gradients, model.trainable_variables, strict=True)
        )
        losses.append(float(loss))
    return losses


def accuracy(model, X, y):
    """The share of X [N, ...] whose class is predicted as y [N] has it."""
    predicted = tf.argmax(model(X, training=False), axis=1)
    return float(tf.reduce_mean(tf.cast(predicted == tf.cast(y, "int64"), "float32")))
