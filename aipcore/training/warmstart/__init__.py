"""Warm start: a new run that begins with weights from elsewhere.

`readers` and `keras_files` read `weights`, `variables` lists what this model has, `names` and `matching` decide which
goes where, and `apply` does it. `params`, `names`, `matching`, `table` and `weights` need no TensorFlow.
"""
