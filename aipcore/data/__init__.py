"""Data: samples, processors, datasets, the order in which samples are visited, and the data loader."""
