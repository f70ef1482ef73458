"""A dead sensor wakes up.

"One column of my table is a sensor that reports nothing: it is constant but for noise
of two millionths.  After this batch norm, in training, its values have a standard
deviation of 0.87, nearly as much as the columns that do report something.  What is
behind this layer cannot tell noise from news."

Checked by `bn check exercises/find_the_bug/b09_a_dead_channel_wakes.py`.
"""

from bn_from_scratch import mxnet as bn  # noqa: F401, lets MXNet import beside NumPy 2

from mxnet import autograd, gluon, np  # isort: skip


class BatchNorm(gluon.Block):
    """Batch normalization of X [N, C] (num_dims=2) or [N, C, H, W] (num_dims=4)."""

    def __init__(self, num_features, num_dims, eps=1e-12, momentum=0.1):
        super().__init__()
        self.num_features, self.num_dims = num_features, num_dims
        self.eps, self.momentum = eps, momentum
        C = (num_features,)
        self.gamma = self.params.get("gamma", shape=C, init="ones")
        self.beta = self.params.get("beta", shape=C, init="zeros")
        self.moving_mean = self.params.get(
            "moving_mean", shape=C, init="zeros", grad_req="null"
        )
        self.moving_var = self.params.get(
            "moving_var", shape=C, init="ones", grad_req="null"
        )

    def forward(self, X):
        training = autograd.is_training()
        if X.ndim != self.num_dims or X.shape[1] != self.num_features:
            raise ValueError(f"a layer for other inputs than {X.shape}")
        if training and X.size == self.num_features:
            raise ValueError("training needs more than one value per channel")
        mean, var = self.moving_mean.data(), self.moving_var.data()
        if training and X.size > 0:
            axes = (0,) if X.ndim == 2 else (0, 2, 3)
            batch_mean = X.mean(axes)
            batch_var = np.square(X - self.like(X, batch_mean)).mean(axes)
            m = self.momentum
            self.moving_mean.set_data((1 - m) * mean + m * batch_mean.detach())
            self.moving_var.set_data((1 - m) * var + m * batch_var.detach())
            mean, var = batch_mean, batch_var
        X_hat = (X - self.like(X, mean)) / np.sqrt(self.like(X, var) + self.eps)
        gamma, beta = self.gamma.data(), self.beta.data()
        return self.like(X, gamma) * X_hat + self.like(X, beta)

    @staticmethod
    def like(X, v):
        """v [C] with an axis for each of X."""
        return v.reshape((1, -1) + (1,) * (X.ndim - 2))
