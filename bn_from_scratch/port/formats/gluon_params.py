"""Gluon: `net.save_parameters("x.params")`, or the .params of `net.export("x")`."""

import re
from pathlib import Path
from typing import Any

from bn_from_scratch import backends
from bn_from_scratch.port import names
from bn_from_scratch.port.content import Content

FRAMEWORK = "mxnet"
EXPORTED = re.compile(  # "arg:batchnorm0_gamma"; the Symbol API says moving_mean
    r"(?:arg|aux):(?P<path>.*?)_"
    r"(?:(?:moving|running)_(?P<kind>mean|var)|(?P<own>gamma|beta|weight|bias))"
)


def read(path: Path) -> Content:
    backends.load(FRAMEWORK)
    import mxnet

    try:
        loaded = mxnet.npx.load(str(path))
    except (mxnet.MXNetError, UnicodeDecodeError) as error:
        reason = str(error).strip().splitlines()[-1]
        raise ValueError(f"MXNet cannot read it: {reason}") from None
    if not isinstance(loaded, dict):
        raise ValueError("its arrays have no names: net.save_parameters(path)")
    entries = ((name, _dotted(name), v.asnumpy()) for name, v in loaded.items())
    return names.split(names.unique(entries), FRAMEWORK)


def write(path: Path, content: Content) -> None:
    import mxnet

    flat = names.flatten(content)
    arrays = {k: mxnet.np.array(v, dtype=v.dtype) for k, v in flat.items()}
    mxnet.npx.save(str(path), arrays)


def save_model(trainer: Any, path: Path) -> None:
    trainer.model.save_parameters(str(path))


def _dotted(name):
    """The name in `save_parameters`'s style: "batchnorm0.gamma"."""
    if not (found := EXPORTED.fullmatch(name)):
        return name
    own = f"running_{found['kind']}" if found["kind"] else found["own"]
    return f"{found['path']}.{own}"
