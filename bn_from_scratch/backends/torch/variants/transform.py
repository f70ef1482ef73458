"""Batch norm whose operands are transformed: fake quantization, noise, logging."""

from bn_from_scratch.backends.torch.layer import BatchNorm


class TransformedBatchNorm(BatchNorm):
    """`transform(gamma, beta, mean, var)` returns the four that are used instead.

    The moving averages follow the statistics as they were.  `transformed` switches it
    on and off at any time.  With `straight_through` the gradient passes as if it
    changed nothing: rounding has none of its own.
    """

    variant = "transform"

    def __init__(
        self, *args, transform, straight_through=False, transformed=True, **kwargs
    ):
        super().__init__(*args, **kwargs)
        self.transform, self.straight_through = transform, straight_through
        self.transformed = transformed

    def operands(self, mean, var, training):
        mean, var, gamma, beta = super().operands(mean, var, training)
        if self.transformed:
            given = gamma, beta, mean, var
            made = self.transform(*given)
            if self.straight_through:
                pairs = zip(given, made, strict=True)
                made = (v + (new - v).detach() for v, new in pairs)
            gamma, beta, mean, var = made
        return mean, var, gamma, beta
