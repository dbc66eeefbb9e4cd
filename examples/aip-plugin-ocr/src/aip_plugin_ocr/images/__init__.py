"""Preparation of line images."""
