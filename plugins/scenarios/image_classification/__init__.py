"""Telling images apart: folders or lists of images to classes."""
