"""Evaluation: losses, metrics and evaluator results of a model on a data set."""
