"""The package's own code, shown in a notebook: a listing that cannot be out of date."""

import inspect
import textwrap
from typing import Any

from IPython.display import Markdown


def show(*things: Any) -> Markdown:
    """The source of functions and classes, as highlighted Python."""
    listings = [textwrap.dedent(inspect.getsource(thing)).rstrip() for thing in things]
    return Markdown("```python\n" + "\n\n\n".join(listings) + "\n```")
