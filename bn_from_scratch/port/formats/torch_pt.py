"""PyTorch: `torch.save(model.state_dict(), "x.pt")`, or a checkpoint that holds one.

A .pt file is a pickle.  It is read with `weights_only=True`, which knows tensors and
plain containers and runs no code that a file brings.
"""

import json
import re
import zipfile
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path
from typing import Any

from bn_from_scratch import backends, reading
from bn_from_scratch.port import floats, names, settings
from bn_from_scratch.port.content import Content
from bn_from_scratch.port.formats import checkpoint

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
    found = checkpoint.state_dict(loaded, lambda v: isinstance(v, torch.Tensor))
    if found is None:
        keys = ", ".join(map(str, loaded)) if isinstance(loaded, dict) else ""
        raise ValueError(
            f"it holds no state_dict{f', but {keys}' * bool(keys)}: "
            "torch.save(model.state_dict(), path)"
        )
    # A tensor may have one value in the file, and any number by its shape.
    size = sum(v.numel() * v.element_size() for v in found.named.values())
    reading.check_size(size, f"{path}, unpacked,")
    content = names.split({k: _array(k, v) for k, v in found.named.items()}, FRAMEWORK)
    content = replace(content, left=(*content.left, *found.beside))
    return settings.from_json(content, _said(loaded, found.keys))


def write(path: Path, content: Content) -> None:
    import torch

    flat = {k: torch.from_numpy(v.copy()) for k, v in names.flatten(content).items()}
    _save(OrderedDict(flat), settings.to_json(content), path)


def save_model(trainer: Any, path: Path) -> None:
    _save(trainer.model.state_dict(), json.dumps(trainer.settings()), path)


def _save(state_dict, said, path):
    """load_state_dict looks the versions of its modules up in _metadata, no more."""
    import torch

    metadata = getattr(state_dict, "_metadata", {})
    state_dict._metadata = metadata | {settings.KEY: said}
    torch.save(state_dict, path)


def _said(loaded, keys):
    """What `_save` wrote beside the state_dict under these keys."""
    for key in keys or ():
        loaded = loaded[key]
    metadata = getattr(loaded, "_metadata", None)
    return metadata.get(settings.KEY) if isinstance(metadata, dict) else None


def _array(name, tensor):
    import torch

    try:
        if tensor.dtype is torch.bfloat16:  # NumPy has none
            return tensor.contiguous().view(torch.int16).numpy().view(floats.OPAQUE)
        return tensor.numpy()
    except (TypeError, RuntimeError):  # sparse, quantized
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
