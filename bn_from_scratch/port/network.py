"""A whole LeNet of this project in a file: recognized, run and evaluated."""

import re
from dataclasses import replace
from os import PathLike
from typing import Any

import numpy as np

from bn_from_scratch import backends, lenet
from bn_from_scratch.data import Dataset
from bn_from_scratch.port import files, layers, translate
from bn_from_scratch.port.content import EXCHANGE, Content

COUNTED = re.compile(r"(conv|dense|batchnorm)\d+")
NORMS = {"bn1": 6, "bn2": 16, "bn3": 120, "bn4": 84}  # names, and sizes


def settle(content: Content) -> Content:
    """The `Content` with LeNet's other layers, or with none but its batch norms."""
    for candidate in (content, _renamed(content)):
        shapes = {name: v.shape for name, v in candidate.others.items()}
        sizes = {path: norm.size for path, norm in candidate.norms.items()}
        if shapes == _shapes(content.framework) and sizes == NORMS:
            return replace(candidate, others=_in_order(candidate.others))
    return replace(content, others={}, left=(*content.left, *content.others))


def trainer_of(content: Content, framework: str | None = None) -> Any:
    """A Trainer of the framework that holds this LeNet, ready to predict on the CPU.

    Its layout follows from the backend's own channel axis, not from the translation.
    """
    framework = framework or content.framework
    bn = backends.load(framework, content.dtype)
    by_size = {norm.size: norm for norm in content.norms.values()}

    def norm(num_features, num_dims, dtype=content.dtype, **named):
        return layers.make(framework, by_size[num_features], dtype, num_dims, **named)

    trainer = bn.Trainer(progress=False, compile=False, device="cpu")
    trainer.prepare(bn.LeNet(norm, dtype=content.dtype))
    trainer.set_weights(_exchange_weights(content))
    return trainer


def logits(path: str | PathLike[str], data: Dataset, **options: Any) -> np.ndarray:
    """What the LeNet in a file answers to the test images.  -> float64 [N, 10]

    `options`: from_, eps, momentum, absent, as of `port`.
    """
    from_, absent = options.pop("from_", None), options.pop("absent", None)
    content = settle(files.read(path, from_, absent))
    if not content.others:
        raise ValueError(f"{path} holds no LeNet of this project")
    content, _ = translate.complete(content, **options)
    framework = content.framework
    if framework == EXCHANGE:
        framework = backends.installed()[0]
    return trainer_of(content, framework).predict(data)


def evaluate(path: str | PathLike[str], data: Dataset, **options: Any) -> np.ndarray:
    """The classes that the LeNet in a file predicts for the test images.  -> int [N]"""
    return logits(path, data, **options).argmax(axis=1)


def _shapes(framework):
    """The shapes of LeNet's other parameters in the layout of a framework."""
    weights = translate.laid_out(lenet.initial_weights(), framework)
    return {name: w.shape for name, w in weights.items()}


def _renamed(content):
    """With LeNet's names for those that Gluon's export counts: conv0, batchnorm0."""
    counted = {"others": lenet.SHAPES, "norms": NORMS}
    found = {
        "others": list(dict.fromkeys(name.split(".")[0] for name in content.others)),
        "norms": list(content.norms),
    }
    names = {}
    for kind, wanted in counted.items():
        if all(map(COUNTED.fullmatch, found[kind])):
            names |= dict(zip(found[kind], wanted, strict=False))
    others = {}
    for name, v in content.others.items():
        path, _, own = name.partition(".")
        others[f"{names.get(path, path)}.{own}"] = v
    norms = {names.get(path, path): norm for path, norm in content.norms.items()}
    return replace(content, others=others, norms=norms)


def _exchange_weights(content):
    """Every array under the name it has in the project, channels first, in order."""
    others = content.others
    if content.framework != EXCHANGE:
        module = backends.part(content.framework, "batch_norm")
        if module.CHANNEL_AXIS == -1:
            others = {k: lenet.to_channels_first(k, v) for k, v in others.items()}
    norms = {
        f"{path}.{name}": v
        for path, norm in content.norms.items()
        for name, v in norm.full().items()
    }
    return _in_order(others | norms)


def _in_order(named):
    return dict(sorted(named.items(), key=lambda item: lenet.position(item[0])))
