"""The parameter file is smaller than I thought.

"Twenty batches in training, save_parameters, load_parameters into a new network: no
error, no warning.  But on the same 32 examples the loaded network answers up to 4.67
away from the one that was saved.  In the file I find two arrays for this layer.  Is
that all that it is made of?"

Checked by `bn check exercises/find_the_bug/b04_the_parameter_file.py`.
"""

from bn_from_scratch import mxnet as bn  # noqa: F401, lets MXNet import beside NumPy 2

from mxnet import autograd, gluon, np  # isort: skip


class BatchNorm(gluon.Block):
    """Batch normalization of X [N, C] (num_dims=2) or [N, C, H, W] (num_dims=4)."""

    def __init__(self, num_features, num_dims, eps=1e-5, momentum=0.1):
        super().__init__()
        self.num_features, self.num_dims = num_features, num_dims
        self.eps, self.momentum = eps, momentum
        C = (num_features,)
        self.gamma = self.params.get("gamma", shape=C, init="ones")
        self.beta = self.params.get("beta", shape=C, init="zeros")
        self.moving_mean = np.zeros(C)
        self.moving_var = np.ones(C)

    def forward(self, X):
        if X.ndim != self.num_dims or X.shape[1] != self.num_features:
            raise ValueError(f"a layer for other inputs than {X.shape}")
        n = X.size // self.num_features
        if autograd.is_training() and n == 1:
            raise ValueError("training needs more than one value per channel")
        moving_mean, moving_var = self.moving_mean, self.moving_var
        mean, var = moving_mean, moving_var
        if autograd.is_training() and n > 0:
            axes = (0,) if X.ndim == 2 else (0, 2, 3)
            mean = X.mean(axes)
            var = np.square(X - self.like(X, mean)).mean(axes)
            m = self.momentum
            self.moving_mean = (1 - m) * moving_mean + m * mean.detach()
            self.moving_var = (1 - m) * moving_var + m * var.detach()
        X_hat = (X - self.like(X, mean)) / np.sqrt(self.like(X, var) + self.eps)
        gamma, beta = self.gamma.data(), self.beta.data()
        return self.like(X, gamma) * X_hat + self.like(X, beta)

    @staticmethod
    def like(X, v):
        """v [C] with an axis for each of X."""
        return v.reshape((1, -1) + (1,) * (X.ndim - 2))
