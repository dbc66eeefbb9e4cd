"""Distributed training: the devices a run uses, and the processes that train together."""
