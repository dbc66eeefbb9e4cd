"""Event files for TensorBoard: scalars, summaries and profiles."""
