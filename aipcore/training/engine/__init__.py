"""The compiled training engine: steps, evaluation, compilation, and what acts on gradients and weights."""
