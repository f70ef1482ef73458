"""HTML pages: a template of `templates/`, filled in, and written as one file.

A page asks for nothing else: its CSS, script and drawings stand in it. What is filled
in is escaped, all but `Markup`, and only drawings of ours are that. A name that a
template uses and nobody gives is an error.
"""

from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from bn_from_scratch.files import write_atomically

ENVIRONMENT = Environment(
    loader=PackageLoader("bn_from_scratch.presentation"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)
ENVIRONMENT.policies["json.dumps_kwargs"] = {"separators": (",", ":")}


def fill(template: str, **parts: object) -> str:
    """The text of a template with its parts filled in."""
    return ENVIRONMENT.get_template(template).render(parts)


def write(template: str, path: str | Path, **parts: object) -> None:
    """Write a template with its parts filled in to path: the whole page, or nothing."""
    write_atomically(path, fill(template, **parts))
