"""Checkpoints: their format, atomic writes, and the manager that decides when to save."""
