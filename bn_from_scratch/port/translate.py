"""A `Content` of one framework in the conventions of another."""

from dataclasses import replace

import numpy as np

from bn_from_scratch import lenet, spec
from bn_from_scratch.port import names, words
from bn_from_scratch.port.assumptions import Assumption, assumption
from bn_from_scratch.port.content import NEUTRAL, OURS, Content, check_settings

# Values per channel in training: of every layer, of each by its path, or unknown.
Counts = int | dict[str, int] | None


def complete(
    content: Content, eps: float | None = None, momentum: float | None = None
) -> tuple[Content, list[Assumption]]:
    """The `Content` with eps and momentum for every layer, and what was assumed.

    What the file does not say is what the user says, else the default of the layer.
    """
    content = stated(content, eps, momentum)
    whose, *values = _defaults(content)
    assumed, norms = [], content.norms
    for name, value in zip(("eps", "momentum"), values, strict=True):
        silent = {k: norm for k, norm in norms.items() if getattr(norm, name) is None}
        if silent:
            of_all = len(silent) == len(norms)
            assumed.append(assumption(name, value, whose, silent, of_all))
        told = {path: replace(norm, **{name: value}) for path, norm in silent.items()}
        norms = {path: told.get(path, norm) for path, norm in norms.items()}
    return replace(content, norms=norms), assumed


def stated(
    content: Content, eps: float | None = None, momentum: float | None = None
) -> Content:
    """The `Content` with what the user says where the file does not.

    ValueError where the user contradicts the file.
    """
    check_settings(eps, momentum)
    norms = {}
    for path, norm in content.norms.items():
        values = {}
        for name, value in {"eps": eps, "momentum": momentum}.items():
            said = getattr(norm, name)
            if None not in (said, value) and said != value:
                raise ValueError(
                    f"the file says {name}={said:g} of {path}; got {value:g}"
                )
            values[name] = value if said is None else said
        norms[path] = replace(norm, **values)
    return replace(content, norms=norms)


def translate(content: Content, to: str, values: Counts = None) -> Content:
    """The `Content` for the framework `to`.

    values: n, the number of values per channel in training, or {path: n}.  With it the
    stored variance is translated between n/(n-1) times the biased one and that one;
    without it the variance stays, and so does every prediction.
    """
    variances = translated_variances(content, to, values)
    norms = []
    for path, norm in content.norms.items():
        state = norm.state | {"moving_var": variances[path]}
        state = {name: state[name] for name in OURS if name in state}
        norm = replace(_unbound(norm), state=state, filled=_to_fill(norm, to))
        norms.append((path, _place(path, to), norm))
    norms, weights = names.unique(norms), channels_first(content)
    return replace(
        content, framework=to, norms=norms, others=laid_out(weights, to), left=()
    )


def translated_variances(
    content: Content, to: str, values: Counts = None
) -> dict[str, np.ndarray]:
    """{path: the moving variance in the convention of the framework `to`}."""
    counts = (
        values if isinstance(values, dict) else dict.fromkeys(content.norms, values)
    )
    if unknown := [path for path in counts if path not in content.norms]:
        known = ", ".join(content.norms)
        raise ValueError(f"there is no batch norm {unknown[0]}; there are {known}")
    if content.mixed and any(n is not None for n in counts.values()):
        raise ValueError(
            "Keras 2 stores the unbiased variance in its fused layers and the biased "
            "one in others; its file does not say which, so it is carried as it is"
        )
    found = {}
    for path, norm in content.norms.items():
        var, n = norm.state["moving_var"], counts.get(path)
        before = words.correction(content.framework, norm)
        after = words.correction(to, _unbound(norm))
        if n is not None and n < 2:
            raise ValueError(f"values must be at least 2; got {n}")
        if n is not None and before != after:
            biased = var.astype(np.float64) * (n - before) / n  # undoes (11)
            var = spec.unbiased(biased, n, after).astype(var.dtype)
        found[path] = var
    return found


def channels_first(content: Content) -> dict[str, np.ndarray]:
    """The other parameters in the layout of the project."""
    if content.framework in words.CHANNELS_LAST:
        return {k: lenet.to_channels_first(k, v) for k, v in content.others.items()}
    return content.others


def laid_out(weights: dict[str, np.ndarray], framework: str) -> dict[str, np.ndarray]:
    """The inverse of `channels_first`."""
    if framework in words.CHANNELS_LAST:
        return {k: lenet.to_channels_last(k, v) for k, v in weights.items()}
    return weights


def _unbound(norm):
    """Without what belongs to the file, and the convention of another's own layer."""
    correction = norm.correction if norm.scratch else None
    return replace(norm, own={}, config=None, correction=correction)


def _place(path, to):
    """The name of a layer there: Keras wants one, and none with a slash."""
    if to == "tensorflow":
        return path.replace("/", ".") or "batch_norm"
    return path


def _to_fill(norm, to):
    """What the layer of the framework `to` must have, and this one has not."""
    absent = tuple(name for name in NEUTRAL if name not in norm.state)
    if norm.scratch or to in ("tensorflow", "jax"):
        return ()
    if to == "torch" and len(absent) == 2:  # affine=False
        return ()
    return absent


def _defaults(content):
    """Whose layer, made without arguments, it is taken for; its eps and momentum."""
    if content.others or any(norm.scratch for norm in content.norms.values()):
        return "this project", spec.EPS, spec.MOMENTUM  # its LeNet, or its layer
    return words.TITLES[content.framework], *words.DEFAULTS[content.framework]
