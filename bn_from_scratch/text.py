"""Text that somebody else wrote: a name in a file, a message, made safe to show."""


def visible(text: object, lines: bool = False) -> str:
    r"""The text, with what cannot be printed written as Python writes it.

    A layer may be called "\x1b[2J", which clears a terminal, or "bn\nAll is well".
    lines: the text has lines of ours, which stay.

    >>> print(visible("bn\x1b[2J\nAll is \u202ewell"))
    bn\x1b[2J\nAll is \u202ewell
    """
    kept = "\n" if lines else ""
    return "".join(
        c if c.isprintable() or c in kept else c.encode("unicode_escape").decode()
        for c in str(text)
    )
