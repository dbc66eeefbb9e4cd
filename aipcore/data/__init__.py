"""Data: samples, in-memory data sets, the order in which samples are visited, and the feed of the training loop."""
