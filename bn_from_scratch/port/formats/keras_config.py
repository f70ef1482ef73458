"""What a file of Keras says of its layers: a tree of descriptions.

A description is {"class_name": ..., "config": {"name": ..., ...}}; wrappers, cells and
models have those of their layers in the config, under names of their own choice.
"""

import json
import re
from collections.abc import Iterator
from typing import Any, TypeGuard

Description = dict[str, Any]
NATIVE = (
    "BatchNormalization",
    "BatchNormalizationV1",
    "BatchNormalizationV2",
    "SyncBatchNormalization",
)
OURS = ("BatchNorm", "FusedBatchNorm", "SyncBatchNorm")
SCRATCH = tuple(f"bn_from_scratch>{name}" for name in OURS)
ALIASES = {"forward_layer": "layer"}  # of Bidirectional: its attribute, and the key


def parse(text: str | bytes) -> Description:
    """The description of a model in JSON; ValueError if it is none."""
    said = json.loads(text)
    if not _is_description(said):
        raise ValueError("it describes no model")
    return said


def is_scratch(said: Description) -> bool:
    """Is it our layer?"""
    return said.get("registered_name") in SCRATCH


def is_norm(said: Description) -> bool:
    """Is it a batch norm that is known here, and no subclass of one?"""
    return said.get("class_name") in NATIVE or is_scratch(said)


def name_of(said: Description) -> str | None:
    """The name of the layer; files of Keras 1 have it beside the config."""
    config = said["config"]
    name = config.get("name") if isinstance(config, dict) else None
    return name or said.get("name")


def within(said: Description) -> list[Description]:
    """The descriptions in the config of a description, without those inside these."""
    return list(_found(said.get("config")))


def find(
    said: Description,
    key: str,
    name: str | None = None,
    count: int = 1,
    container: str | None = None,
) -> Description:
    """The description of the layer in a group of an HDF5 file; {} if there is none.

    said: that of the layer that holds it.  key: the group's own name: the attribute, or
    a place in a list.  name: the layer's, which `count` of those that are held have.
    container: the attribute that is the list.
    """
    if not said:
        return {}
    if name is not None:
        return by_name(said, name, count)
    config = said["config"] if isinstance(said["config"], dict) else {}
    if container is not None:
        return _by_place(_found(config.get(container))).get(key, {})
    found = config.get(key, config.get(ALIASES.get(key, "")))
    return found if _is_description(found) else {}


def by_name(said: Description, name: str, count: int = 1) -> Description:
    """The nearest description of this name; {} for fewer than `count`, or several that
    differ."""
    level = within(said)
    while level:
        found = [inner for inner in level if name_of(inner) == name]
        if found:
            same = all(settings(inner) == settings(found[0]) for inner in found)
            return found[0] if same and len(found) >= count else {}
        level = [inner for outer in level for inner in within(outer)]
    return {}


def only_norm(said: Description) -> Description:
    """The one batch norm that is described in it, at any depth, or it; {} otherwise."""
    if is_norm(said):
        return said
    found, level = [], within(said) if said else []
    while level:
        found += [inner for inner in level if is_norm(inner)]
        level = [inner for outer in level for inner in within(outer)]
    return found[0] if len(found) == 1 else {}


def settings(said: Description) -> tuple[Any, ...]:
    """What decides how the layer normalizes, as far as it is said."""
    names = "epsilon", "eps", "momentum", "center", "scale", "correction", "statistics"
    config = said["config"] if isinstance(said["config"], dict) else {}
    return said.get("class_name"), *map(config.get, names)


def _found(thing: Any) -> Iterator[Description]:
    if _is_description(thing):
        yield thing
    elif isinstance(thing, dict):
        for value in thing.values():
            yield from _found(value)
    elif isinstance(thing, list):
        for value in thing:
            yield from _found(value)


def _is_description(thing: Any) -> TypeGuard[Description]:
    return (
        isinstance(thing, dict)
        and isinstance(thing.get("class_name"), str)
        and isinstance(thing.get("config"), (dict, list))
    )


def _by_place(descriptions):
    """{"batch_normalization_1": the second of its class}: how Keras names groups."""
    found, counts = {}, {}
    for said in descriptions:
        kind = _snake_case(said["class_name"])
        count = counts[kind] = counts.get(kind, -1) + 1
        found[f"{kind}_{count}" if count else kind] = said
    return found


def _snake_case(name):
    name = re.sub(r"\W+", "", name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()
