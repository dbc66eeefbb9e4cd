"""Warm start: a new run that begins with the weights of another model.

`readers` and `keras_files` read `weights`, `variables` lists the variables of this model, `names` and `matching` pair
them, and `apply` assigns the values. `params`, `names`, `matching`, `table` and `weights` need no TensorFlow.
"""
