"""Shipped optimizers."""
