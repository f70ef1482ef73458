"""Batch normalization, written once as mathematics and once per framework as code.

`spec` holds the equations in NumPy.  `torch`, `tensorflow`, `jax` and `mxnet` are their
translations, the same names in each: `from bn_from_scratch import torch as bn` gives
`batch_norm`, `BatchNorm` and its variants, `builtin`, `probe`, `LeNet`, `BNLeNet` and
`Trainer`.  `checks` says what a layer accepts, and `combinations` which variants go
together; `data` finds Fashion-MNIST, `training` holds the epoch loop, `compare` proves
that all of them agree, `checker` says which mistake an exercise's answer makes,
`course` is what the notebooks share, `cli` is the command line.  No framework is
imported before it is asked for.
"""

from bn_from_scratch import backends


def __getattr__(name):
    if name in backends.NAMES:
        try:
            return backends.load(name)
        except AttributeError as error:  # `from ... import` would hide it
            raise ImportError(f"the {name} backend fails to import: {error}") from error
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted([*globals(), *backends.NAMES])
