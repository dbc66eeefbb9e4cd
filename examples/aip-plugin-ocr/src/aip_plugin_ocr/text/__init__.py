"""Preparation of texts: normalization and direction."""
