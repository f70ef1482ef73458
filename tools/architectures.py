"""Try every tool on real architectures: `python tools/architectures.py [WORD ...]`.

With random weights, as far as Keras, Gluon, timm, torchvision and transformers are
installed; WORD chooses models whose name has it.  A row per model: the batch norms; how
far its output moves (in float64, relative) when they become ours, and ours the
framework's again; re-estimated on a batch, how far its prediction is from what the
batch's own statistics answer; how many batch norms fold, and how many stay, with a
reason; the layers that `health` sees (without a batch: it would run once for each).
A refusal in words is an answer; a traceback or a difference above the tolerance is not:
exit 1.
"""

import dataclasses
import functools
import re
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any

import numpy as np

from bn_from_scratch import backends
from bn_from_scratch.health import health
from bn_from_scratch.presentation.table import Figure, table
from bn_from_scratch.surgery.proof import OWN_TOLERANCES, TOLERANCE, difference

MODES = "prediction", "training"
HEADER = ["model", "batch norms", "replaced", "back", "re-estimated", "folded", "stay"]
HEADER += ["health", "s", "remark"]


@dataclasses.dataclass
class Model:
    """A model in float64 with an input, and what works on models of its framework."""

    bn: Any
    model: Any
    X: Any
    outputs: Callable[..., Any]  # (model, X, modes) -> {mode: {place: array}}
    in_training: Callable[..., Any]  # (model, X) -> answer by the batch's statistics


Maker = tuple[str, Callable[[], Model]]


def main() -> int:
    words = [word.lower() for word in sys.argv[1:]]
    rows, wrong = [], 0
    for name, make in makers():
        if words and not any(word in name.lower() for word in words):
            continue
        start = time.perf_counter()
        try:
            cells, is_wrong = tried(make())
        except Exception:
            last = traceback.format_exc().strip().splitlines()[-1]
            cells, is_wrong = ["-"] * 7 + [f"WRONG: {last[:90]}"], True
        *figures, remark = cells
        rows.append([name, *figures, round(time.perf_counter() - start), remark])
        wrong += is_wrong
        print(table(HEADER, rows[-1:]).splitlines()[-1], file=sys.stderr, flush=True)
    print(table(HEADER, rows))
    print(f"\n{len(rows)} models, {wrong} of them wrong")
    return 1 if wrong else 0


def tried(given: Model) -> tuple[list[Any], bool]:
    """The cells of a model, and whether one is wrong."""
    bn, model, X = given.bn, given.model, given.X
    remarks: list[str] = []

    def step(function: Callable[[], Any], default: Any = "-") -> Any:
        """Its answer, or the default where it is refused in words."""
        try:
            return function()
        except ValueError as error:
            if not remarks:
                remarks.append(f"refused: {error}")
            return default

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        described = bn.batch_norms(model)
        before = given.outputs(model, X, MODES)
        ours = step(lambda: bn.replace_batch_norm(model, bn.BatchNorm), None)
        replaced = back = again = "-"
        if ours is not None:
            replaced = difference(before, given.outputs(ours, X, MODES))
            restored = bn.replace_batch_norm(ours, bn.builtin)
            back = difference(before, given.outputs(restored, X, MODES))
            # Where the biased variance is stored both are the same in exact numbers.
            biased = functools.partial(bn.BatchNorm, correction=0)
            ours = bn.replace_batch_norm(ours, biased)
            anew = step(lambda: bn.reestimate(ours, [X]), None)
            if anew is not None:
                by_batch = given.in_training(ours, X)
                prediction = given.outputs(anew, X, MODES[:1])["prediction"]
                again = difference(by_batch, prediction)
        folded, left = step(
            lambda: bn.fold_batch_norm(model, X, partial=True), (None, {})
        )
        count = "-" if folded is None else len(described) - len(left)
        seen = step(lambda: len(health(model).rows))
    found = [w for w in caught if str(w.message).startswith("proven in ")]
    own = re.match(r"proven in (\w+)", str(found[0].message)) if found else None
    remarks += [own[0]] if own else []
    limit = OWN_TOLERANCES[own[1]] if own else TOLERANCE
    figures = [v for v in (replaced, back, again) if v != "-"]
    is_wrong = not all(v <= limit for v in figures)
    shown = [Figure(v) if v != "-" else v for v in (replaced, back, again)]
    stay = "-" if folded is None else len(left)
    remark = "; ".join(remarks) or (next(iter(left.values())) if left else "")
    cells = [len(described), *shown, count, stay, seen, remark[:100]]
    return cells, is_wrong


def makers() -> Iterator[Maker]:
    """(name, make) of every model that is installed."""
    installed = backends.installed()
    if "tensorflow" in installed:
        yield from of_keras()
    if "mxnet" in installed:
        yield from of_gluon()
    if "torch" in installed:
        for package, models in TORCH.items():
            if find_spec(package):
                yield from models()


def state(name: str, shape: tuple[int, ...], rng: np.random.Generator) -> Any:
    """A gamma, variance, ... as training might leave it; None for other parameters."""
    if name.endswith(("gamma", "moving_var")):
        return rng.uniform(0.5, 1.5, shape)
    if name.endswith(("beta", "moving_mean")):
        return rng.normal(0, 0.2, shape)
    return None


def images(channel_axis: int, size: int = 64, count: int = 2) -> np.ndarray:
    X = np.random.default_rng(0).normal(size=(count, 3, size, size))
    return np.moveaxis(X, 1, channel_axis)


# --- Keras ---------------------------------------------------------------------------

KERAS = {"MobileNetV2": 64, "MobileNetV3Small": 64, "DenseNet121": 64}
KERAS |= {"ResNet50": 64, "ResNet50V2": 64, "Xception": 72, "InceptionV3": 80}
KERAS |= {"EfficientNetB0": 64, "EfficientNetV2B0": 64, "NASNetMobile": 64}


def of_keras() -> Iterator[Maker]:
    """keras.applications with weights=None."""
    for name, size in KERAS.items():
        yield f"keras {name}", lambda name=name, size=size: keras_model(name, size)


def keras_model(name: str, size: int) -> Model:
    from bn_from_scratch import tensorflow as bn

    import keras  # isort: skip  (after the backend, which quiets its logs)

    from bn_from_scratch.backends.tensorflow.builtin import exchange_names
    from bn_from_scratch.backends.tensorflow.models import copying, reestimation

    keras.utils.clear_session()
    keras.utils.set_random_seed(0)
    make = getattr(keras.applications, name)
    model = make(input_shape=(size, size, 3), classes=10, weights=None)
    rng = np.random.default_rng(1)
    model = copying.exact(model)
    for key, v in exchange_names(model).items():
        if (value := state(key, v.shape, rng)) is not None:
            v.assign(value)

    def in_training(model: Any, X: Any) -> Any:
        return reestimation.run_in_training(model, X)[1]

    return Model(bn, model, images(-1, size), copying.outputs, in_training)


# --- Gluon ---------------------------------------------------------------------------

GLUON = "resnet18_v1", "resnet18_v2", "vgg11_bn", "squeezenet1.0", "mobilenet0.25"
GLUON += "mobilenetv2_0.25", "densenet121", "inceptionv3"


def of_gluon() -> Iterator[Maker]:
    """Gluon's model zoo; some of it does not run under NumPy's semantics."""
    for name in GLUON:
        yield f"gluon {name}", lambda name=name: gluon_model(name)


def gluon_model(name: str) -> Model:
    from bn_from_scratch import mxnet as bn

    from mxnet.gluon.model_zoo import vision  # isort: skip  (after the backend)

    from bn_from_scratch.backends.mxnet.builtin import exchange_names
    from bn_from_scratch.backends.mxnet.models import copying, reestimation

    size = 299 if name == "inceptionv3" else 224 if "dense" in name else 64
    model, X = vision.get_model(name, classes=10), images(1, size, 2)
    rng = np.random.default_rng(1)
    model.initialize()
    model = copying.exact(model, X)
    for key, p in exchange_names(model).items():
        if (value := state(key, p.shape, rng)) is not None:
            p.set_data(copying.np.array(value))

    def in_training(model: Any, X: Any) -> Any:
        return reestimation.run_in_training(model, X)[1]

    return Model(bn, model, X, copying.outputs, in_training)


# --- PyTorch -------------------------------------------------------------------------

TORCHVISION = "resnet18", "mobilenet_v2", "mobilenet_v3_small", "efficientnet_b0"
TORCHVISION += "densenet121", "shufflenet_v2_x0_5", "mnasnet0_5", "regnet_y_400mf"
TORCHVISION += "googlenet", "vgg11_bn"
TIMM = "efficientnet_b0", "resnet18", "resnetv2_18", "repvgg_a0", "ghostnet_050"
TIMM += "mobilenetv3_small_050", "levit_128s", "hardcorenas_a", "dla34", "convnext_atto"
TRANSFORMERS = "ResNet", "MobileNetV2", "RegNet", "Levit", "Cvt"


def of_torchvision() -> Iterator[Maker]:
    import torchvision

    for name in TORCHVISION:
        yield (
            f"torchvision {name}",
            lambda name=name: torch_model(torchvision.models.get_model(name)),
        )
    yield "torchvision deeplabv3 (frozen)", lambda: torch_model(frozen_backbone())


def frozen_backbone() -> Any:
    """A backbone with FrozenBatchNorm2d under a head with batch norms."""
    import torchvision

    segmentation = torchvision.models.segmentation
    backbone = torchvision.models.resnet18(
        norm_layer=torchvision.ops.misc.FrozenBatchNorm2d
    )
    body = torchvision.models._utils.IntermediateLayerGetter(
        backbone, {"layer4": "out"}
    )
    return segmentation.DeepLabV3(body, segmentation.deeplabv3.DeepLabHead(512, 10))


def of_timm() -> Iterator[Maker]:
    import timm

    for name in TIMM:
        size = 224 if "levit" in name else 64
        yield (
            f"timm {name}",
            lambda name=name, size=size: torch_model(timm.create_model(name), size),
        )


def of_transformers() -> Iterator[Maker]:
    import transformers

    for name in TRANSFORMERS:
        config = getattr(transformers, f"{name}Config")
        model = getattr(transformers, f"{name}Model")
        size = 224 if name in ("Levit", "Cvt") else 64
        yield (
            f"transformers {name}",
            lambda config=config, model=model, size=size: torch_model(
                model(config()), size, by_name="pixel_values"
            ),
        )


TORCH = {"torchvision": of_torchvision, "timm": of_timm}
TORCH |= {"transformers": of_transformers}


def torch_model(model: Any, size: int = 64, by_name: str | None = None) -> Model:
    import torch

    from bn_from_scratch import torch as bn
    from bn_from_scratch.backends.torch.builtin import exchange_names
    from bn_from_scratch.backends.torch.models import copying, reestimation

    torch.manual_seed(0)
    model, rng = model.double(), np.random.default_rng(1)
    for key, v in exchange_names(model).items():
        if (value := state(key, tuple(v.shape), rng)) is not None and v.ndim == 1:
            v.data.copy_(torch.from_numpy(value))
    X = images(1, size)

    def in_training(model: Any, X: Any) -> Any:
        return reestimation.run_in_training(model, X)[1]

    X = X if by_name is None else {by_name: X}
    return Model(bn, model, X, copying.outputs, in_training)


if __name__ == "__main__":
    sys.exit(main())
