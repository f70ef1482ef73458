"""The same work through several backends, and how far their answers lie apart.

`layer`: one layer against the spec.  `precision`: float32 against float64, at large
means.  `training`: a network trained in each from the same weights on the same batches.
"""
