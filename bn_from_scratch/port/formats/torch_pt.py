"""PyTorch: `torch.save(model.state_dict(), "x.pt")`.

A .pt file is a pickle.  It is read with `weights_only=True`, which knows tensors and
plain containers and runs no code that a file brings.
"""

import re
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

from bn_from_scratch import backends, reading
from bn_from_scratch.port import names, settings
from bn_from_scratch.port.content import Content

FRAMEWORK = "torch"


def read(path: Path) -> Content:
    backends.load(FRAMEWORK)
    import torch

    try:
        if zipfile.is_zipfile(path):
            reading.check_zip(path)
        with open(path, "rb") as file:  # given a path, it goes by the suffix
            loaded = torch.load(file, map_location="cpu", weights_only=True)
    except reading.TooLarge:
        raise
    except Exception as error:  # the parser raises whatever it stumbles over
        raise ValueError(_reason(error)) from None
    state_dict = _state_dict_of(loaded, torch)
    # A tensor may have one value in the file, and any number by its shape.
    size = sum(v.numel() * v.element_size() for v in state_dict.values())
    reading.check_size(size, f"{path}, unpacked,")
    content = names.split({k: _array(k, v) for k, v in state_dict.items()}, FRAMEWORK)
    metadata = getattr(state_dict, "_metadata", None)
    said = metadata.get(settings.KEY) if isinstance(metadata, dict) else None
    return settings.from_json(content, said)


def write(path: Path, content: Content) -> None:
    import torch

    flat = {k: torch.from_numpy(v.copy()) for k, v in names.flatten(content).items()}
    state_dict: Any = OrderedDict(flat)
    # load_state_dict looks the versions of its own modules up here, and no more.
    state_dict._metadata = {settings.KEY: settings.to_json(content)}
    torch.save(state_dict, path)


def save_model(trainer: Any, path: Path) -> None:
    import torch

    torch.save(trainer.model.state_dict(), path)


def _state_dict_of(loaded, torch):
    """The state_dict itself, or the one in a checkpoint; ValueError without one."""
    for key in ("state_dict", "model_state_dict"):
        if isinstance(loaded, dict) and isinstance(loaded.get(key), dict):
            loaded = loaded[key]
    tensors = isinstance(loaded, dict) and all(
        isinstance(k, str) and isinstance(v, torch.Tensor) for k, v in loaded.items()
    )
    if not tensors:
        raise ValueError("it holds no state_dict: torch.save(model.state_dict(), path)")
    return loaded


def _array(name, tensor):
    try:
        return tensor.numpy()
    except (TypeError, RuntimeError):  # bfloat16, sparse, quantized
        raise ValueError(f"NumPy has no {tensor.dtype}, the dtype of {name}") from None


def _reason(error):
    """PyTorch's own words, without its advice to load the file unsafely."""
    text = str(error)
    if found := re.search(r"GLOBAL ([\w.]+)", text):
        return (
            f"it needs {found[1]}, and code that a file brings is never run: "
            "torch.save(model.state_dict(), path)"
        )
    if not text or "weights_only" in text:
        text = type(error).__name__
    return f"PyTorch cannot read it: {text.partition('. ')[0]}"
