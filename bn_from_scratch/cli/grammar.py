"""The words of the grammar: what an option takes, and what is said of a wrong one."""

import argparse
import difflib
import math
import pathlib
from collections.abc import Callable, Collection, Sequence
from typing import Any, NoReturn

from bn_from_scratch import backends
from bn_from_scratch.text import visible

CLOSE = 2  # options that are shown for one that is unknown


class Help(argparse.HelpFormatter):
    """Help that says the default of each option that has one."""

    def _get_help_string(self, action: argparse.Action) -> str:
        said, default = action.help or "", action.default
        none = default is None or default is False or default == argparse.SUPPRESS
        if none or "default" in said or not action.option_strings:
            return said
        shown = ",".join(default) if isinstance(default, tuple) else default
        return f"{said} (default: {shown})"


class Parser(argparse.ArgumentParser):
    """A parser whose errors are short: the usage in a line, what is wrong, what to do.

    >>> parser = Parser(prog="bn train")
    >>> option = parser.add_argument("--epochs", type=whole(1), help="passes")
    >>> parser.parse_args(["--epochs", "3"]).epochs
    3
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **{"formatter_class": Help} | options)
        self.set_defaults(parser=self)  # that of the command, where there are several

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        known, unknown = self.parse_known_args(args, namespace)
        if unknown:
            known.parser.refuse(unknown[0])
        return known

    def refuse(self, unknown: str) -> NoReturn:
        """Say that there is no such option, and which ones are close."""
        name = unknown.partition("=")[0]
        if not name.startswith("-"):
            self.error(f"there is no place for {name!r}")
        options = [o for o in self._option_string_actions if o.startswith("--")]
        close = difflib.get_close_matches(name, options, n=CLOSE, cutoff=0.6)
        lines = [f"there is no option {name}" + "; close to it:" * bool(close)]
        for option in close:
            said = self._option_string_actions[option].help or ""
            lines.append(f"  {option:<18}  {said}")
        self.error("\n".join(lines))

    def error(self, message: str) -> NoReturn:
        wanted = [a for a in self._actions if a.required]
        names = [
            f"{a.option_strings[0]} {a.metavar or a.dest.upper()}"
            if a.option_strings
            else f"{a.metavar or a.dest}"
            for a in wanted
        ]
        usage = " ".join([self.prog, *names, "[OPTION ...]"])
        text = (
            f"usage: {usage}\n{self.prog}: error: {message}\n"
            f"all options: {self.prog} --help\n"
        )
        self.exit(2, visible(text, lines=True))


def whole(least: int, most: int | None = None) -> Callable[[str], int]:
    """An argument type: a whole number, between these."""
    limits = f"of at least {least}" + f" and at most {most}" * (most is not None)

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if value < least or (most is not None and value > most):
            message = f"a whole number {limits} is wanted; got {text!r}"
            raise argparse.ArgumentTypeError(message)
        return value

    return parse


def finite(
    least: float = 0, most: float = math.inf, above: bool = False
) -> Callable[[str], float]:
    """An argument type: a finite number between these; above: more than the least."""
    limits = f"{'above' if above else 'of at least'} {least:g}"
    limits += f" and at most {most:g}" * math.isfinite(most)

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        high_enough = value > least if above else value >= least
        if not (math.isfinite(value) and high_enough and value <= most):
            message = f"a finite number {limits} is wanted; got {text!r}"
            raise argparse.ArgumentTypeError(message)
        return value

    return parse


def names_from(known: Collection[str]) -> Callable[[str], tuple[str, ...]]:
    """An argument type: names from `known`, separated by commas.

    A backend may have another name that people give it: `backends.ALIASES`.
    """

    def parse(text: str) -> tuple[str, ...]:
        names = tuple(map(backends.named, text.split(",")))
        for name in names:
            if name not in known:
                message = f"{name!r} is not one of {', '.join(known)}"
                raise argparse.ArgumentTypeError(message)
        return tuple(dict.fromkeys(names))

    return parse


def file(text: str) -> str:
    """An argument type: the path of a file, which may be absent."""
    if pathlib.Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"a file is wanted; {text} is a folder")
    return text


def folder(text: str) -> str:
    """An argument type: the path of a folder, which may be absent."""
    path = pathlib.Path(text)
    for place in (path, *path.parents):
        if place.exists():
            if not place.is_dir():
                message = f"a folder is wanted; {place} is a file"
                raise argparse.ArgumentTypeError(message)
            break
    return text


def add_backend(
    command: argparse.ArgumentParser,
    *names: str,
    choices: Sequence[str],
    **options: Any,
) -> None:
    """Add an option that names a framework, by any name that people give it."""
    shown = "{" + ",".join(choices) + "}"
    command.add_argument(
        *names, type=backends.named, choices=choices, metavar=shown, **options
    )
