"""Callbacks in a run: how they are called, and what they may know and compute."""
