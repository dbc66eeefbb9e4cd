"""Warm start: a new run that begins with weights from elsewhere.

`source` finds out what a path is, `readers` and `keras_files` read it, `targets` lists what this model has, `renaming`
and `matching` decide which goes where, and `apply` does it. `params`, `source` and `report` need no TensorFlow.
"""
