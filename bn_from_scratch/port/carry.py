"""`port`: read, translate, write, read back, prove; only then does the file appear."""

import contextlib
import os
import tempfile
from dataclasses import replace
from os import PathLike
from pathlib import Path

from bn_from_scratch import backends, lenet
from bn_from_scratch.files import written_whole
from bn_from_scratch.port import files, network, proof, translate, words
from bn_from_scratch.port.assumptions import some_of
from bn_from_scratch.port.content import NEUTRAL
from bn_from_scratch.port.report import Report
from bn_from_scratch.port.translate import Counts

SETTINGS = ("eps", "momentum", "correction")


def port(
    source: str | PathLike[str],
    to: str,
    out: str | PathLike[str] | None = None,
    *,
    from_: str | None = None,
    eps: float | None = None,
    momentum: float | None = None,
    values: Counts = None,
    absent: str | None = None,
    overwrite: bool = False,
    strict: bool = False,
) -> Report:
    """Carry the batch norms of a file, or a whole LeNet, to another framework.

    out: where to; its suffix chooses the format.  By default beside the source.
    from_: the framework of a .safetensors whose names could be of several.
    eps, momentum (the weight of the new batch): what the file itself does not say.
    values: values per channel in training, or {layer: values}; translates the stored
    variance between unbiased (PyTorch) and biased, and is best left out: only the
    variance as it is gives the same predictions.
    absent: "gamma" or "beta", of layers in a .weights.h5 that have one of them.
    strict: write nothing where eps or momentum had to be assumed (`report.assumed`).

    overwrite: replace a file that is there.  A symbolic link is replaced, and what it
    leads to stays.  The source is never replaced: of what is not carried, nothing else
    is left.

    Errors: ValueError for a file that cannot be carried and for a difference above
    tolerance, FileExistsError for a target that exists, ImportError for an absent
    framework.  Then nothing is written.
    """
    to = backends.named(to)
    out = files.target(source, to, out)
    _refuse_source(source, out)
    _refuse(out, overwrite)
    led_to = os.readlink(out) if out.is_symlink() else None
    backends.load(to)
    found = network.settle(files.read(source, from_, absent))
    found, assumed = translate.complete(found, eps, momentum)
    kept = not (strict and assumed)
    with written_whole(out) if kept else _on_trial(out) as place:
        wanted = translate.translate(found, to, values)
        files.write(place, wanted)
        back = _read_back(place, wanted)
        variances = translate.translated_variances(found, to, values)
        rows = proof.prove_layers(found, back, variances)
        if found.others:
            rows += proof.prove_network(found, back, variances)
            rows.sort(key=lambda row: lenet.position(row["layer"]))
        proof.check(rows, (found.framework, to))
        _refuse(out, overwrite)  # it may have come meanwhile
    return Report(
        source=str(source),
        frameworks=(found.framework, to),
        kind="LeNet" if found.others else f"batch norms: {len(found.norms)}",
        rows=rows,
        written=str(out) if kept else None,
        notes=_notes(found, wanted, out, values, assumed) + _of_link(out, led_to),
        left=list(found.left),
        assumed=assumed,
    )


def _refuse(out, overwrite):
    """Raise before the work begins, where its result could not be put."""
    if not out.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {out.parent}")
    if out.is_dir():
        raise IsADirectoryError(f"a file is to be written; {out} is a folder")
    if os.path.lexists(out) and not overwrite:
        raise FileExistsError(f"{out} exists; it is overwritten only on request")


def _refuse_source(source, out):
    """Raise where the result would replace what it is made of."""
    if os.path.exists(out) and os.path.exists(source) and os.path.samefile(source, out):
        raise FileExistsError(
            f"{out} is the source itself, of which not all is carried; write to "
            "another file"
        )


@contextlib.contextmanager
def _on_trial(out):
    """A place for a file that is proven and not kept."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder) / out.name


def _of_link(out, led_to):
    """What happened to a symbolic link, in words."""
    if led_to is None or out.is_symlink():
        return []
    return [
        f"{out} was a link to {led_to}; now it is a file, and {led_to} is as it was"
    ]


def _read_back(path, wanted):
    """What the file that was written holds; its layers in the order of `wanted`.

    Where the format has no place for settings, the layers are made with those wanted.
    """
    found = files.read(
        path, wanted.framework, check=lambda found: found
    )  # it is proven
    found = network.settle(found)
    if found.norms.keys() != wanted.norms.keys() or (
        found.others.keys() != wanted.others.keys()
    ):
        raise ValueError("what was written came back with other layers; it was removed")
    norms = {}
    for path, given in wanted.norms.items():
        norm = found.norms[path]
        said = {name: getattr(norm, name) for name in SETTINGS}
        silent = {k: getattr(given, k) for k, value in said.items() if value is None}
        norms[path] = replace(norm, **silent)
    return replace(found, norms=norms)


def _notes(found, wanted, out, values, assumed):
    """What whoever loads the file must know."""
    to = wanted.framework
    notes = [f"{kind} in the file: read as float32" for kind in found.narrow]
    for a in assumed:
        default = f"{a.value:g} was assumed, as {a.whose} has it"
        notes.append(f"the file does not say {a.name}: {default}")
    for path, kind in found.unknown.items():
        notes.append(f"{path} is not carried: what a {kind} computes is not known here")
    if found.framework not in backends.installed():
        title = words.TITLES[found.framework]
        notes.append(f"{title}: no framework here runs it; the spec stood in for it")
    made = {}
    for path, norm in wanted.norms.items():
        text = words.settings(to, norm)
        made.setdefault(text, []).append(path or "the layer")
    if files.suffix(out) != ".keras":  # which describes its layers
        notes += [f"make {some_of(paths)} with {text}" for text, paths in made.items()]
    for name, value in NEUTRAL.items():
        filled = [path for path, norm in wanted.norms.items() if name in norm.filled]
        if filled:
            notes.append(
                f"{some_of(filled)}: no {name} in the source; {words.TITLES[to]} must "
                f"have one, so it is {value:g}: do not train it"
            )
    corrections = {
        words.correction(content.framework, norm)
        for content in (found, wanted)
        for norm in content.norms.values()
    }
    if found.mixed:
        notes.append(
            "the stored variance is carried as it is: that of Keras 2 is n/(n-1) times "
            "the biased one in fused layers, and in others not"
        )
    elif len(corrections) == 2 and values is None:
        notes.append(
            "the stored variance is carried as it is, so that predictions stay; "
            "PyTorch's is n/(n-1) times that of the others (--values n translates it)"
        )
    counted = [path for path, norm in found.norms.items() if norm.batches]
    if counted and to != "torch" and files.suffix(out) not in files.WITH_SETTINGS:
        notes.append("num_batches_tracked has no place there and starts again at 0")
    return notes
