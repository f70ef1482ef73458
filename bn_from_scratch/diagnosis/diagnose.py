"""`diagnose(a, b)`: two records, files, layers or models, paired and compared."""

import os
from typing import Any

from bn_from_scratch.diagnosis import layers
from bn_from_scratch.diagnosis.pair import diagnose_pair
from bn_from_scratch.diagnosis.recorder import record
from bn_from_scratch.diagnosis.recording import Recording, load, recordings
from bn_from_scratch.diagnosis.verdict import Diagnosis, ModelDiagnosis


def diagnose(
    a: Any, b: Any, *, names: tuple[str, str] = ("a", "b"), **options: Any
) -> Diagnosis | ModelDiagnosis:
    """Why two batch norms differ.  -> Diagnosis, or ModelDiagnosis of several layers

    a, b: records, paths of records (.safetensors, .npz), layers of any two frameworks,
    or models, whose batch norms are paired by name, or in order where the names are
    others; a Flax model as (module, variables, X), with an input to trace it on.
    options of what has to be recorded first: dtype, seed (`record`).
    """
    one, other = _layers_of(a), _layers_of(b)
    pairs, notes = _pairs(one, other, names)
    found = [
        diagnose_pair(*_recorded(layer, mine, theirs, options), names, layer)
        for layer, mine, theirs in pairs
    ]
    return (
        found[0] if list(one) == list(other) == [""] else ModelDiagnosis(found, notes)
    )


def _recorded(name, one, other, options):
    """A pair of Recordings; what is a layer yet is recorded at the size of both."""
    both = (
        thing.sizes if isinstance(thing, Recording) else layers.sizes(thing)
        for thing in (one, other)
    )
    known = zip(*both, strict=True)
    sizes = {}
    for what, pair in zip(("num_features", "num_dims"), known, strict=True):
        given = sorted({size for size in pair if size is not None})
        if len(given) > 1:
            raise ValueError(
                f"{name or 'the two'} must agree in {what}; "
                f"got {given[0]} and {given[1]}"
            )
        sizes[what] = given[0] if given else None

    def recorded(thing):
        if isinstance(thing, Recording):
            return thing
        return recordings(record(thing, **sizes, **options))[""]

    return recorded(one), recorded(other)


def _layers_of(thing):
    """{name: record or layer} of one thing to diagnose."""
    if isinstance(thing, str | os.PathLike):
        thing = load(thing)
    if isinstance(thing, dict):
        return recordings(thing)
    if layers.is_batch_norm(thing):
        return {"": thing}
    found = layers.batch_norms(thing)
    if not found:
        raise ValueError(f"no batch norm is in the {type(thing).__name__}")
    return found


def _pairs(one, other, names):
    """Triples (name, layer, layer), by name if the names are the same, else in order;
    and what has no partner, in words."""
    if set(one) == set(other):
        return [(name, one[name], other[name]) for name in one], []
    pairs = [
        (f"{name} / {partner}", one[name], other[partner])
        for name, partner in zip(one, other, strict=False)
    ]
    notes = []
    if len(one) != len(other):
        counts = f"{names[0]} has {len(one)} batch norms, {names[1]} {len(other)}"
        notes.append(f"{counts}: the rest of the longer was not compared.")
    return pairs, notes
