"""Carry batch norms and whole LeNets between files of the frameworks, with proof.

`port` reads a file, translates it, writes it for another framework, reads that back and
runs both sides on the same input: a difference above tolerance is an error, and nothing
is left behind.  `formats/` has a module per file format.  Importing this package
imports no framework.
"""

from bn_from_scratch.port.carry import port
from bn_from_scratch.port.network import evaluate
from bn_from_scratch.port.report import Report

__all__ = ["Report", "evaluate", "port"]


def __dir__() -> list[str]:
    return __all__
