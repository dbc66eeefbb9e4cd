"""Callbacks in a run: their calls, their context, and what they can compute."""
