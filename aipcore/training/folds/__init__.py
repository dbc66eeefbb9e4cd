"""Cross-validation: runs for the folds of the training data, in one process or in several."""
