"""Samples, processors, datasets, the sample order, and the data loader."""
