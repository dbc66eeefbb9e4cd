"""The compiled training engine: steps, evaluation, compilation, and changes to gradients and weights."""
