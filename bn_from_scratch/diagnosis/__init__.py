"""When two batch norms differ, name the cause: `diagnose(a, b)`, `bn diagnose A B`.

`recording` says what a record of a layer holds; `recorder` makes one of any layer of a
framework (`layers`) by a fixed `protocol`.  `pair` compares two records: `search`
explains each side by the `causes`, the checker's mistakes among them, under which the
spec answers the same (`prediction`, `side`, up to the rounding of `scale`), with the
`numbers` that fit; `given` looks at what the two started from.  `evidence` and
`verdict` put that into words.
"""

from bn_from_scratch.diagnosis.diagnose import diagnose
from bn_from_scratch.diagnosis.recorder import record
from bn_from_scratch.diagnosis.recording import load, save
from bn_from_scratch.diagnosis.verdict import Cause, Diagnosis, ModelDiagnosis

__all__ = ["Cause", "Diagnosis", "ModelDiagnosis", "diagnose", "load", "record", "save"]


def __dir__() -> list[str]:
    return __all__
