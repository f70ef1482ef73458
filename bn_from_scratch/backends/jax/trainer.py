"""Training in JAX: one step, one prediction, weights in and out as NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from bn_from_scratch import lenet, training
from bn_from_scratch.backends.jax.builtin import exchange_names

OPTIMIZERS = {"sgd": optax.sgd, "adam": optax.adam}


class Trainer(training.Trainer):
    """`Trainer(max_epochs=10).fit(model, data)` for a Flax module.

    A Flax module has no weights of its own: they are `trainer.variables`.
    optimizer may be a function lr -> optax.GradientTransformation, too.
    compile=False runs the steps without jax.jit.
    """

    def prepare(self, model):
        gpu = jax.default_backend() == "gpu" and self.device != "cpu"
        if self.device == "gpu" and not gpu:
            raise ValueError("device gpu was asked for; JAX finds none")
        self.device_used = "gpu" if gpu else "cpu"
        self.place = jax.devices("gpu" if gpu else "cpu")[0]
        self.model = model
        C, H, W = lenet.IMAGE
        X = jnp.zeros((1, H, W, C), device=self.place)
        variables = model.init(jax.random.key(0), X, training=False)
        self.variables = jax.device_put(variables, self.place)
        self.dtype = str(jax.tree.leaves(variables["params"])[0].dtype)
        if getattr(model, "dtype", self.dtype) != self.dtype:
            raise ValueError(
                f"a {model.dtype} model came out as {self.dtype}: "
                "jax.config.update('jax_enable_x64', True) before it is made"
            )
        make = OPTIMIZERS.get(self.optimizer, self.optimizer)
        self.updater = make(self.lr)
        self.updater_state = self.updater.init(self.variables["params"])
        wrap = (lambda f: f) if self.compile is False else jax.jit
        self._compiled_step = wrap(self._step)
        self._compiled_logits = wrap(self._logits)

    def train_parts(self, parts):
        parts = [(_channels_last(X), y, share) for X, y, share in parts]
        parts = jax.device_put(parts, self.place)
        state = self.variables, self.updater_state
        loss, self.variables, self.updater_state = self._compiled_step(parts, *state)
        return loss

    def _step(self, parts, variables, updater_state):
        losses, gradients = [], []
        for part in parts:
            loss, grads, variables = self._backward(*part, variables)
            losses.append(loss)
            gradients.append(grads)
        grads, params = jax.tree.map(lambda *g: sum(g), *gradients), variables["params"]
        updates, updater_state = self.updater.update(grads, updater_state, params)
        params = optax.apply_updates(params, updates)
        return sum(losses), variables | {"params": params}, updater_state

    def _backward(self, X, y, share, variables):
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

    def logits(self, X):
        X = jax.device_put(_channels_last(X), self.place)
        return np.asarray(self._compiled_logits(X, self.variables))

    def _logits(self, X, variables):
        return self.model.apply(variables, X, training=False)

    def get_weights(self):
        named = exchange_names(self.variables)
        return {
            k: lenet.to_channels_first(k, np.array(self.variables[kind][layer][v]))
            for k, (kind, layer, v) in named.items()
        }

    def write_weights(self, weights):
        variables = jax.tree.map(lambda v: v, self.variables)  # new dicts, same arrays
        for name, (kind, layer, v) in exchange_names(self.variables).items():
            w = lenet.to_channels_last(name, weights[name])
            like = variables[kind][layer][v]
            variables[kind][layer][v] = jax.device_put(
                jnp.asarray(w, like.dtype), self.place
            )
        self.variables = variables


def _channels_last(X):
    return np.moveaxis(X, 1, -1)
