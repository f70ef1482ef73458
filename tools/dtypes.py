"""Every variant on X of each dtype in a layer of each: `python tools/dtypes.py`.

Prints a row per framework and variant, and in each cell, for the dtypes of the layer,
`=` for the answer of the spec, `-` for a refusal in our words and `!` for anything
else; then the words.  Exits with 1 if there is a `!`.  `--backends torch,jax` tries a
part; JAX takes minutes.
"""

import argparse
import collections
import pathlib
import sys

from bn_from_scratch import backends
from bn_from_scratch.presentation.table import table

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tests"))
SIGNS = {"right": "=", "refused": "-"}


def main():
    import dtype_matrix

    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--backends", default=",".join(backends.installed()))
    names = parser.parse_args().backends.split(",")
    rows, words = collections.defaultdict(str), collections.Counter()
    for backend, variant, x_dtype, layer_dtype in dtype_matrix.cells(names):
        verdict = dtype_matrix.verdict(backend, variant, x_dtype, layer_dtype)
        rows[backend, variant, x_dtype] += SIGNS.get(verdict.split(":")[0], "!")
        if verdict != "right":
            words[backend, verdict] += 1
    layers = " ".join(str(dtype) for dtype in dtype_matrix.LAYER_DTYPES)
    print(f"Each cell: a layer of {layers}.  = right, - refused, ! neither.\n")
    x_dtypes = dtype_matrix.DTYPES
    keys = dict.fromkeys((backend, variant) for backend, variant, _ in rows)
    cells = [[*key, *(rows[*key, x_dtype] for x_dtype in x_dtypes)] for key in keys]
    print(table(["backend", "variant", *(f"X {dtype}" for dtype in x_dtypes)], cells))
    for (backend, verdict), times in words.items():
        print(f"\n{times} times in {backend}: {verdict}")
    return int(any("!" in signs for signs in rows.values()))


if __name__ == "__main__":
    sys.exit(main())
