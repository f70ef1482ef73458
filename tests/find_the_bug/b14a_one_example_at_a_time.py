"""One example at a time.

"To adapt a model to a stream I train it on each row as it comes, batches of one.  No
error.  But the layer's output is exactly 0 in all 4 columns, whatever the row.  After
50 rows the moving variance was 0.005, though the rows have a standard deviation of 2.
I would rather have had an exception."

Checked by `bn check exercises/find_the_bug/b14a_one_example_at_a_time.py`.
"""

from bn_from_scratch import mxnet as bn  # noqa: F401, lets MXNet import beside NumPy 2

from mxnet import autograd, gluon, np  # isort: skip


class BatchNorm(gluon.Block):
    """Batch normalization of X [N, C] (num_dims=2) or [N, C, H, W] (num_dims=4)."""

    def __init__(self, num_features, num_dims, eps=1e-5, momentum=0.1):
        super().__init__()
        self.num_features, self.num_dims = num_features, num_dims
        self.eps, self.momentum = eps, momentum
        still = {"shape": (num_features,), "grad_req": "null"}
        self.gamma = self.params.get("gamma", shape=(num_features,), init="ones")
        self.beta = self.params.get("beta", shape=(num_features,), init="zeros")
        self.moving_mean = self.params.get("moving_mean", init="zeros", **still)
        self.moving_var = self.params.get("moving_var", init="ones", **still)

    def forward(self, X):
        if X.ndim != self.num_dims or X.shape[1] != self.num_features:
            raise ValueError(f"a layer for other inputs than {X.shape}")
        if autograd.is_training() and X.size == self.num_features:
            raise ValueError("training needs more than one value per channel")
        if autograd.is_training() and X.size > 0:
            mean, var = self.learn(X)
        else:
            mean, var = self.moving_mean.data(), self.moving_var.data()
        X_hat = (X - self.like(X, mean)) / np.sqrt(self.like(X, var) + self.eps)
        gamma, beta = self.gamma.data(), self.beta.data()
        return self.like(X, gamma) * X_hat + self.like(X, beta)

    def learn(self, X):
        """The statistics of X [N, C, *]; the moving averages go one batch on."""
        axes = (0,) if X.ndim == 2 else (0, 2, 3)
        mean = X.mean(axes)
        var = np.square(X - self.like(X, mean)).mean(axes)
        self.move(self.moving_mean, mean)
        self.move(self.moving_var, var)
        return mean, var

    def move(self, moving, batch):
        """Move a moving average one batch on."""
        old = moving.data()
        moving.set_data(old + self.momentum * (batch.detach() - old))

    @staticmethod
    def like(X, v):
        """v [C] with an axis for each of X."""
        return v.reshape((1, -1) + (1,) * (X.ndim - 2))
