"""Statistics taken anew: the moving averages become those of a whole data set."""

from mxnet import autograd, np

from bn_from_scratch.backends.mxnet.models import copying
from bn_from_scratch.backends.mxnet.models.surgery import (
    batch_norms,
    norms_of,
    state_of,
)
from bn_from_scratch.surgery.reestimation import pooled


def reestimate(model, batches):
    """A new model whose moving averages are the statistics of all values in `batches`.

    batches: inputs of the model.  Each batch norm normalizes them by the batch, as in
    training, and everything else predicts: a dropout drops nothing.  One that is frozen
    stays as it is.  (Ioffe and Szegedy 2015, algorithm 2, with (16) for the variance.)
    """
    found = pooled_statistics(model, batches)
    model = copying.copied(model)
    for path, values in found.items():
        state = state_of(norms_of(model)[path])
        for name, v in values.items():
            state[name].set_data(np.array(v, dtype=state[name].dtype))
    return model


def pooled_statistics(model, batches):
    """{path: {"moving_mean", "moving_var"}}: what `reestimate` writes."""
    inputs = (inputs_of_norms(model, X) for X in batches)
    return pooled(inputs, batch_norms(model))


def inputs_of_norms(model, X):
    """{path: [what each batch norm is given]} while all of them take the batch's."""
    return run_in_training(model, X)[0]


def run_in_training(model, X, paths=None):
    """A prediction in which these batch norms take the batch's statistics, or all.

    Returns {path: [what each of them is given]} and what the model answers.
    """
    described, model, found = batch_norms(model), copying.copied(model), {}
    model.hybridize(False)
    for path, layer in norms_of(model).items():
        moves = described[path].settings["frozen"] != "all"
        if moves and (paths is None or path in paths):
            found[path] = []

            def record(layer, inputs, path=path):
                found[path].append(inputs[0].asnumpy())

            layer.register_forward_pre_hook(record)
            layer.forward = in_training(layer.forward)
    with autograd.predict_mode():
        return found, copying.arrays(model(copying.as_input(X, model)))


def in_training(forward):
    """The forward of one layer as in training: Gluon has one mode for all of them."""

    def trained(*args):
        with autograd.train_mode():
            return forward(*args)

    return trained
