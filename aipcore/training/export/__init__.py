"""Exported models: SavedModels and other formats, and the proof that they compute the same."""
