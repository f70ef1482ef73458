"""The BatchNorm layer of PyTorch: state, checks and modes around the core.

A variant is a subclass that overrides one step: `batch_stats` (where the statistics
come from), `operands` (what `normalize` is given) or `move` (what becomes of them).
"""

from collections.abc import Callable
from typing import Any, TypedDict

import torch
from torch import Tensor
from torch.fx import Proxy
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter, is_lazy

from bn_from_scratch import checks, combinations, signatures, spec
from bn_from_scratch.backends.torch import statistics as stats
from bn_from_scratch.backends.torch.batch_norm import (
    CHANNEL_AXIS,
    batch_stats,
    normalize,
    promote,
    update_moving,
)
from bn_from_scratch.backends.torch.dtypes import AtLeastFloat32
from bn_from_scratch.backends.torch.overflow import in_range
from bn_from_scratch.backends.torch.recomputation import recomputing
from bn_from_scratch.backends.torch.tracing import Leaf
from bn_from_scratch.spec import EPS, MOMENTUM, Axis

Dtype = torch.dtype | str | None
Initializer = float | Callable[[Tensor], Any]  # a number, or what fills a tensor
Operands = tuple[Tensor, Tensor, Tensor, Tensor]  # mean, var, gamma, beta


class FrozenOptions(TypedDict, total=False):
    """What a variant hands on to the layer by name; `frozen` is its own affair."""

    axis: Axis
    center: bool
    scale: bool
    correction: int
    statistics: str
    gamma_initializer: Initializer
    beta_initializer: Initializer
    moving_mean_initializer: Initializer
    moving_var_initializer: Initializer


class LayerOptions(FrozenOptions, total=False):
    """What a variant hands on to the layer by name."""

    frozen: str | None


class BatchNorm(Leaf, AtLeastFloat32):
    """Batch normalization with learned scale and shift.  X [N, C, *] -> same.

    `.train()` and `.eval()` choose the mode.  Without `num_features` the first call
    infers it; without `num_dims` X may have any number of axes.
    momentum: weight of the new batch; None pools all batches so far.
    axis: the channel axis, or several.  center, scale: is there a beta, a gamma?
    correction: 1 stores the unbiased variance.  statistics: "batch" predicts with those
    of the batch.  frozen: "affine" fixes gamma and beta; "all" the statistics too.
    *_initializer: a number, or a function that fills a tensor (torch.nn.init).
    `torch.optim.swa_utils.update_bn` sees PyTorch's own layers alone, and passes these
    by in silence: `bn.reestimate` does its work.

    >>> layer = bn.BatchNorm(num_features=3)
    >>> layer(torch.rand(8, 3, 4, 4)).shape
    torch.Size([8, 3, 4, 4])
    >>> layer.moving_mean.shape
    torch.Size([3])

    The methods below are the seams for subclasses: those under State make and change
    what is kept, those under Forward and Steps are what a variant overrides.
    """

    needs_values: bool = True  # more than one per channel, in this replica
    num_features: int | tuple[int, ...] | None
    num_dims: int | None
    axis: Axis
    eps: float
    momentum: float | None
    correction: int
    statistics: str
    dtype: torch.dtype
    initializers: dict[str, Initializer | None]
    gamma: Tensor | None
    beta: Tensor | None
    moving_mean: Tensor
    moving_var: Tensor
    moving_count: Tensor

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        combinations.check_class(cls)
        signatures.sign(cls, BatchNorm)

    def __init__(
        self,
        num_features: int | tuple[int, ...] | None = None,
        num_dims: int | None = None,
        eps: float = EPS,
        momentum: float | None = MOMENTUM,
        dtype: Dtype = None,
        *,
        axis: Axis = CHANNEL_AXIS,
        center: bool = True,
        scale: bool = True,
        correction: int = 0,
        statistics: str = "moving",
        frozen: str | None = None,
        gamma_initializer: Initializer = 1,
        beta_initializer: Initializer = 0,
        moving_mean_initializer: Initializer = 0,
        moving_var_initializer: Initializer = 1,
    ) -> None:
        super().__init__()
        settings = eps, momentum, axis, correction, statistics, frozen
        checks.check_layer(num_features, num_dims, *settings)
        self.num_features, self.num_dims, self.axis = num_features, num_dims, axis
        self.eps, self.momentum, self.correction = eps, momentum, correction
        self.statistics = statistics
        self.dtype, self.initializers = at_least_float32(dtype), {}
        self.add_parameter("gamma", gamma_initializer if scale else None)
        self.add_parameter("beta", beta_initializer if center else None)
        self.add_statistic("moving_mean", moving_mean_initializer)
        self.add_statistic("moving_var", moving_var_initializer)
        if momentum is None:
            self.add_scalar("moving_count")
        self.frozen = frozen

    # --- State ---------------------------------------------------------------------

    def add_parameter(self, name: str, initializer: Initializer | None) -> None:
        """A learned [C]; with None there is none."""
        # The stub of PyTorch knows no dtype here.
        lazy: Any = UninitializedParameter(dtype=self.dtype)  # pyright: ignore[reportCallIssue]
        self.register_parameter(name, None if initializer is None else lazy)
        self._add_initializer(name, initializer)

    def add_statistic(self, name: str, initializer: Initializer) -> None:
        """A [C] that is state, but not learned."""
        lazy: Any = UninitializedBuffer(dtype=self.dtype)  # pyright: ignore[reportCallIssue]
        self.register_buffer(name, lazy)
        self._add_initializer(name, initializer)

    def add_scalar(self, name: str) -> None:
        """A number that is state, from 0."""
        self.register_buffer(name, torch.zeros((), dtype=self.dtype))

    def _add_initializer(self, name: str, initializer: Initializer | None) -> None:
        self.initializers[name] = initializer
        if self.num_features is not None:
            self.build(checks.tuple_of(self.num_features))

    @torch.no_grad()
    def build(self, shape: tuple[int, ...]) -> None:
        """Give what has no shape yet its shape and its initial value."""
        self.num_features = shape[0] if len(shape) == 1 else tuple(shape)
        for name, initializer in self.initializers.items():
            v = getattr(self, name)
            if initializer is not None and is_lazy(v):
                v.materialize(shape)
                initializer(v) if callable(initializer) else v.fill_(initializer)

    @torch.no_grad()
    def put(self, enough: bool | Tensor, **values: Tensor) -> None:
        """Change statistics in place, if there were values enough to take them of."""
        old = tuple(getattr(self, name) for name in values)
        new = stats.select(enough, tuple(values.values()), old)
        for v, value in zip(old, new, strict=True):
            v.copy_(value)  # the buffers stay the ones that others hold

    def _load_from_state_dict(self, state_dict, prefix, *args):
        """A layer without sizes takes those of the statistics it is given."""
        given = state_dict.get(f"{prefix}moving_mean")
        if self.num_features is None and given is not None and not is_lazy(given):
            self.build(given.shape)
        super()._load_from_state_dict(state_dict, prefix, *args)

    @property
    def frozen(self) -> str | None:
        """None; "affine": gamma and beta are fixed; "all": the statistics too."""
        return self._frozen

    @frozen.setter
    def frozen(self, frozen: str | None) -> None:
        checks.check_choice("frozen", frozen, checks.FROZEN)
        self._frozen = frozen
        for v in self.parameters(recurse=False):
            v.requires_grad = frozen is None

    # --- Forward -------------------------------------------------------------------

    def forward(
        self, X: Tensor, mask: Tensor | None = None, update: bool = True
    ) -> Tensor:
        """`mask`: valid positions.  `update=False` leaves the moving averages alone.

        So does the second run of torch.utils.checkpoint: a batch counts once.
        """
        checks.check_kind("X", X, (Tensor, Proxy), "a torch.Tensor")
        if isinstance(X, Proxy):
            return self.node_of(X, mask=mask, update=update)  # pyright: ignore
        training = self.training and self.frozen != "all"
        needs = (training or self.predicts_by_batch()) and self.needs_values
        sizes = self.num_features, self.num_dims
        checks.check_input(X.shape, X.dtype, self.axis, *sizes, needs)
        if self.num_features is None:
            self.build(spec.stats_shape(X.shape, self.axis))
        if mask is not None:
            checks.check_kind("the mask", mask, (Tensor, Proxy), "a torch.Tensor")
            shape = checks.check_mask(mask.shape, X.shape, self.axis)
            mask = mask.reshape(shape).to(torch.bool)
            X = stats.clear_padding(X, mask)
        if training:
            return self.train_forward(X, mask, update and not recomputing())
        return self.eval_forward(X, mask)

    def train_forward(self, X: Tensor, mask: Tensor | None, update: bool) -> Tensor:
        """Normalize by the batch, and move the averages."""
        dtype, X = X.dtype, promote(X)  # once, or dX is rounded twice
        mean, var, n = self.batch_stats(X, mask)
        used = self.or_moving(mean, var, n)
        Y = self.normalize(X, *used, self.axis, training=True)
        if update:
            self.move(mean.detach(), var.detach(), n)
        return Y.to(dtype)

    def eval_forward(self, X: Tensor, mask: Tensor | None) -> Tensor:
        """Normalize by the moving averages, or as `statistics` says."""
        dtype, X = X.dtype, promote(X)
        mean, var = self.moving_mean, self.moving_var
        if self.predicts_by_batch():
            mean, var = self.or_moving(*BatchNorm.batch_stats(self, X, mask))
        Y = self.normalize(X, mean, var, self.axis, training=False)
        return Y.to(dtype)

    def or_moving(
        self, mean: Tensor, var: Tensor, n: int | Tensor
    ) -> tuple[Tensor, Tensor]:
        """These statistics, or the moving ones if fewer than two values gave them."""
        moving = self.moving_mean, self.moving_var
        mean, var = stats.select(n > 1, (mean, var), moving)
        return mean, var

    def predicts_by_batch(self) -> bool:
        """Does prediction take the statistics of the batch?"""
        return self.statistics == "batch" and self.frozen != "all"

    # --- Steps: what a variant overrides -------------------------------------------

    def batch_stats(
        self, X: Tensor, mask: Tensor | None
    ) -> tuple[Tensor, Tensor, int | Tensor]:
        """Where the statistics come from.  -> mean [C], var [C], values per channel."""
        if 0 in X.shape:  # 0, but in the graph: replicas go backward together
            nothing = promote(X).sum(spec.reduce_axes(X.ndim, self.axis))
            return nothing, nothing, 0
        if mask is not None:
            mean, var, n = stats.masked_stats(X, mask, self.axis)
            return mean, in_range(X, var), n
        mean, var = batch_stats(X, self.axis)
        n = spec.values_per_channel(X.shape, self.axis)
        return mean, in_range(X, var), n

    def normalize(
        self, X: Tensor, mean: Tensor, var: Tensor, axis: Axis, training: bool
    ) -> Tensor:
        """X by these statistics, scaled and shifted.  -> like X."""
        return normalize(X, *self.operands(mean, var, training), self.eps, axis)

    def operands(self, mean: Tensor, var: Tensor, training: bool) -> Operands:
        """What `normalize` is given: mean, var, gamma, beta."""
        gamma = torch.ones_like(mean) if self.gamma is None else self.gamma
        beta = torch.zeros_like(mean) if self.beta is None else self.beta
        return mean, var, gamma, beta

    @torch.no_grad()
    def move(self, mean: Tensor, var: Tensor, n: int | Tensor) -> None:
        """Put a batch of n values per channel into the moving averages."""
        moving = self.moving_mean, self.moving_var
        if self.momentum is None:
            so_far = *moving, self.moving_count
            mean, var, count = stats.cumulate(*so_far, mean, var, n, self.correction)
            self.put(n > 1, moving_mean=mean, moving_var=var, moving_count=count)
        else:
            var = stats.unbiased(var, n, self.correction)
            mean, var = update_moving(*moving, mean, var, self.momentum)
            self.put(n > 1, moving_mean=mean, moving_var=var)

    def extra_repr(self) -> str:
        return f"{self.num_features}, eps={self.eps}, momentum={self.momentum}"


def at_least_float32(dtype: Dtype) -> torch.dtype:
    """The dtype of the parameters: 16-bit inputs are normalized in float32."""
    given = torch.get_default_dtype() if dtype is None else dtype
    name = str(given).removeprefix("torch.")
    checks.check_dtype(name)
    return torch.promote_types(getattr(torch, name), torch.float32)
