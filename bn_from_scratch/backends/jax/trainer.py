"""Training in JAX: one step, one prediction, weights in and out as NumPy."""

from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict
from jax import Array

from bn_from_scratch import lenet, training
from bn_from_scratch.backends.jax.builtin import exchange_names
from bn_from_scratch.backends.jax.models.folding import fold_batch_norm
from bn_from_scratch.backends.jax.models.reestimation import pooled_statistics
from bn_from_scratch.backends.jax.models.surgery import batch_norms
from bn_from_scratch.surgery.description import Description

OPTIMIZERS = {"sgd": optax.sgd, "adam": optax.adam}


class Trainer(training.Trainer):
    """`Trainer(max_epochs=10).fit(model, data)` for a Flax module.

    A Flax module has no weights of its own: they are `trainer.variables`.
    optimizer may be a function lr -> optax.GradientTransformation, too.
    compile=False runs the steps without jax.jit.

    >>> import numpy as np
    >>> trainer = bn.Trainer(lr=0.5, device="cpu", compile=False)
    >>> trainer.prepare(bn.BNLeNet())
    >>> trainer.logits(np.zeros([2, 1, 28, 28], "float32")).shape
    (2, 10)
    """

    def prepare(self, model: nn.Module) -> None:
        gpu = jax.default_backend() == "gpu" and self.device != "cpu"
        if self.device == "gpu" and not gpu:
            raise ValueError("device gpu was asked for; JAX finds none")
        self.device_used: str = "gpu" if gpu else "cpu"
        self.place: Any = jax.devices("gpu" if gpu else "cpu")[0]
        self.model: nn.Module = model
        C, H, W = lenet.IMAGE
        X = jnp.zeros((1, H, W, C), device=self.place)
        variables: Any = model.init(jax.random.key(0), X, training=False)
        self.variables: dict[str, Any] = jax.device_put(variables, self.place)
        self.dtype: str = str(jax.tree.leaves(variables["params"])[0].dtype)
        if getattr(model, "dtype", self.dtype) != self.dtype:
            raise ValueError(
                f"a {model.dtype} model came out as {self.dtype}: "
                "jax.config.update('jax_enable_x64', True) before it is made"
            )
        make: Any = OPTIMIZERS.get(self.optimizer, self.optimizer)
        self.updater: optax.GradientTransformation = make(self.lr)
        self.updater_state: optax.OptState = self.updater.init(self.variables["params"])
        wrap: Any = (lambda f: f) if self.compile is False else jax.jit
        self._compiled_step = wrap(self._step)
        self._compiled_logits = wrap(self._logits)

    def train_parts(self, parts: list[training.Part]) -> float | Array:
        given = [(_channels_last(X), y, share) for X, y, share in parts]
        given = jax.device_put(given, self.place)
        state = self.variables, self.updater_state
        loss, self.variables, self.updater_state = self._compiled_step(given, *state)
        return loss

    def _step(
        self,
        parts: list[tuple[Array, Array, float]],
        variables: dict[str, Any],
        updater_state: optax.OptState,
    ) -> tuple[float | Array, dict[str, Any], optax.OptState]:
        losses, gradients = [], []
        for part in parts:
            loss, grads, variables = self._backward(*part, variables)
            losses.append(loss)
            gradients.append(grads)
        grads, params = jax.tree.map(lambda *g: sum(g), *gradients), variables["params"]
        updates, updater_state = self.updater.update(grads, updater_state, params)
        params = optax.apply_updates(params, updates)
        return sum(losses), variables | {"params": params}, updater_state

    def _backward(
        self, X: Array, y: Array, share: float, variables: dict[str, Any]
    ) -> tuple[Array, Any, dict[str, Any]]:
        """The share of a part in the loss, its gradients, statistics that moved."""
        stats = {kind: v for kind, v in variables.items() if kind != "params"}

        def loss_of(params):
            logits, moved = self.model.apply(
                {"params": params, **stats}, X, training=True, mutable=["batch_stats"]
            )
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, y)
            return share * losses.mean(), moved

        value_and_grad = jax.value_and_grad(loss_of, has_aux=True)
        (loss, moved), grads = value_and_grad(variables["params"])
        return loss, grads, variables | moved

    def logits(self, X: np.ndarray) -> np.ndarray:
        X = jax.device_put(_channels_last(X), self.place)
        return np.asarray(self._compiled_logits(X, self.variables))

    def _logits(self, X: Array, variables: dict[str, Any]) -> Any:
        return self.model.apply(variables, X, training=False)

    def activations(self, X: np.ndarray) -> dict[str, np.ndarray]:
        X = jax.device_put(_channels_last(X), self.place)
        options: Any = {"capture_intermediates": True, "mutable": ["intermediates"]}
        answer: Any = self.model.apply(self.variables, X, training=False, **options)
        found = answer[1]["intermediates"]
        answers = {k: found[k]["__call__"] for k in lenet.LAYERS if k in found}
        return {name: _channels_first(Y) for name, (Y,) in answers.items()}

    def get_weights(self) -> training.Weights:
        flat: Any = flatten_dict(self.variables)
        places = exchange_names(self.variables).items()
        return {k: lenet.to_channels_first(k, np.array(flat[at])) for k, at in places}

    def write_weights(self, weights: training.Weights) -> None:
        flat: dict[Any, Any] = flatten_dict(self.variables)
        for name, place in exchange_names(self.variables).items():
            w = jnp.asarray(lenet.to_channels_last(name, weights[name]))
            w = w.astype(flat[place].dtype)
            flat[place] = jax.device_put(w, self.place)
        self.variables = unflatten_dict(flat)

    def pooled_statistics(
        self, batches: Iterable[np.ndarray]
    ) -> dict[str, training.Weights]:
        batches = map(_channels_last, batches)
        return pooled_statistics(self.model, batches, self.variables)

    def descriptions(self) -> dict[str, Description]:
        C, H, W = lenet.IMAGE
        X = jnp.zeros((1, H, W, C), device=self.place)
        return batch_norms(self.model, X, self.variables)

    def fold_on(self, X: np.ndarray) -> None:
        X = _channels_last(X)
        model, variables = fold_batch_norm(self.model, X, self.variables)
        self.prepare(model)
        self.variables = jax.device_put(variables, self.place)


def _channels_last(X: np.ndarray) -> np.ndarray:
    return np.moveaxis(X, 1, -1)


def _channels_first(Y: Array) -> np.ndarray:
    return np.moveaxis(np.asarray(Y), -1, 1)
