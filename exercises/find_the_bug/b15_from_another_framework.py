"""A layer brought along from another framework.

"I carried our PyTorch network over to Keras, line by line.  It trains.  But the norm
behind a convolution of 6 channels, 24 x 24 pixels, has 96 parameters in the summary,
not 4 x 6 = 24, and on images of 20 x 20 it raises a ValueError: axis 1 should have the
value 24.  The norms between the dense layers are as they should be."

Checked by `bn check exercises/find_the_bug/b15_from_another_framework.py`.
"""

from keras import Sequential, layers


def builtin_batch_norm(num_features, num_dims):
    """Keras's own layer, which answers what ours does: eps 1e-5, momentum 0.1.

    num_features, num_dims: those of our layer.  Keras finds both out by itself.
    """
    return layers.BatchNormalization(axis=1, momentum=0.9, epsilon=1e-5)


def concise_network():
    """A small network with batch normalization, of nothing but Keras's layers."""
    return Sequential(
        [
            layers.Input((28, 28, 1)),
            layers.Conv2D(6, 5),
            builtin_batch_norm(6, num_dims=4),
            layers.Activation("sigmoid"),
            layers.AveragePooling2D(2),
            layers.Flatten(),
            layers.Dense(84),
            builtin_batch_norm(84, num_dims=2),
            layers.Activation("sigmoid"),
            layers.Dense(10),
        ]
    )
