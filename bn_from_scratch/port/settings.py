"""What most files have no place for: eps, momentum, what was filled in.

We write it as JSON beside the arrays, where a format takes more than arrays.
"""

import json
from dataclasses import replace

import numpy as np

from bn_from_scratch import training
from bn_from_scratch.port.content import NEUTRAL, Content

KEY = training.HEADER
KNOWN = (*training.SETTINGS, "filled", "batches")


def to_json(content: Content) -> str:
    """The settings of the batch norms of a `Content`."""
    return json.dumps(
        {
            path: {name: getattr(norm, name) for name in KNOWN}
            | {"absent": [name for name in NEUTRAL if name not in norm.full()]}
            for path, norm in content.norms.items()
        }
    )


def absent(text: str | None) -> dict[str, str]:
    """{path: the parameter that the layer lacks}, if it lacks one of the two."""
    entries = json.loads(text) if text else {}
    lacking = {path: entry.get("absent", []) for path, entry in entries.items()}
    return {path: names[0] for path, names in lacking.items() if len(names) == 1}


def from_json(content: Content, text: str | None) -> Content:
    """The `Content` with the settings that `to_json` wrote; None or "" adds nothing."""
    if not text:
        return content
    try:
        said = {path: _checked(**entry) for path, entry in json.loads(text).items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"its settings cannot be read: {error}") from None
    norms = {
        path: _unfilled(replace(norm, **said.get(path, {})))
        for path, norm in content.norms.items()
    }
    return replace(content, norms=norms)


def _checked(
    eps=None,
    momentum=None,
    correction=None,
    statistics="moving",
    filled=(),
    batches=None,
    absent=(),
):
    """The settings of one layer, as what they must be."""
    if statistics not in ("moving", "batch"):
        raise ValueError(f"statistics are moving or batch; got {statistics!r}")
    return {
        "eps": None if eps is None else float(eps),
        "momentum": None if momentum is None else float(momentum),
        "correction": None if correction is None else int(correction),
        "statistics": statistics,
        "filled": tuple(name for name in NEUTRAL if name in filled),
        "batches": None if batches is None else int(batches),
    }


def _unfilled(norm):
    """Without what was filled in, unless it was trained since."""
    filled = [
        name
        for name in norm.filled
        if name in norm.state and np.all(norm.state[name] == NEUTRAL[name])
    ]
    state = {name: v for name, v in norm.state.items() if name not in filled}
    return replace(norm, state=state, filled=tuple(filled))
