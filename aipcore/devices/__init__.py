"""Devices: which ones a run uses, and how its work is split among them."""
