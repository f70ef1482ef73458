"""What bn_from_scratch uses of MXNet, for pyright.

MXNet says no types, and what pyright infers from its code is wrong: there a shape may
be None and an array a tuple.  Classes that we name or inherit stand here; all else is
Any.
"""

from typing import Any

from . import gluon as gluon
from . import initializer as initializer
from . import operator as operator
from . import optimizer as optimizer

init = initializer

class Context:
    def __enter__(self) -> Context: ...
    def __exit__(self, *error: object) -> None: ...

class MXNetError(RuntimeError): ...

def __getattr__(name: str) -> Any: ...
