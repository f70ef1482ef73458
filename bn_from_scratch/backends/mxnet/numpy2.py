"""Import MXNet 1.9.1 beside NumPy 2, or 1.26.

MXNet reads names that NumPy removed, and only while it is being imported: they are put
back for that time and taken away again.
"""

import importlib
from typing import Any

import numpy as np

# Old name -> what it meant; None where MXNet lists the function but never calls it.
REMOVED: dict[str, Any] = {
    "Inf": np.inf,
    "NAN": np.nan,
    "NINF": -np.inf,
    "NZERO": -0.0,
    "NaN": np.nan,
    "PINF": np.inf,
    "PZERO": 0.0,
    "alltrue": np.all,
    "bool": np.bool_,  # gone in 1.24, back in 2.0
    "in1d": np.isin,
    "mirr": None,
    "msort": None,
    "npv": None,
    "pmt": None,
    "ppmt": None,
    "product": np.prod,
    "pv": None,
    "rate": None,
    "round_": np.round,
    "sometrue": np.any,
    "trapz": getattr(np, "trapezoid", None),  # its name since NumPy 2
}


def import_mxnet() -> Any:
    """The mxnet module; NumPy is left as it was found."""
    # Not hasattr: NumPy 1.26 answers it for some of these with a warning.
    absent = [name for name in REMOVED if name not in vars(np)]
    try:
        for name in absent:
            setattr(np, name, REMOVED[name])
        return importlib.import_module("mxnet")
    finally:
        for name in absent:
            delattr(np, name)
