"""Too many parameters.

"The same LeNet in three frameworks has 44,878 trained parameters, norms included; in
Flax I count 108,238.  I cannot carry the weights over: the kernel of the first dense
layer is (784, 120) here and (256, 120) elsewhere.  All other kernels have the same
shapes, and I counted the layers twice."

Checked by `bn check exercises/find_the_bug/b17_too_many_parameters.py`.
"""

import flax.linen as nn


class LeNet(nn.Module):
    """LeNet with batch normalization.  X [N, 28, 28, 1] -> logits [N, 10]."""

    @nn.compact
    def __call__(self, X, training):
        for channels in (6, 16):
            X = nn.Conv(channels, kernel_size=(5, 5), padding="VALID")(X)
            X = self.norm(training)(X)
            X = nn.sigmoid(X)
            X = nn.avg_pool(X, (2, 2), strides=(2, 2))
        X = X.reshape(len(X), -1)
        for units in (120, 84):
            X = nn.Dense(units)(X)
            X = self.norm(training)(X)
            X = nn.sigmoid(X)
        return nn.Dense(10)(X)

    @staticmethod
    def norm(training):
        """Flax's own batch norm; its momentum is the weight of the old value."""
        return nn.BatchNorm(use_running_average=not training, momentum=0.9)
