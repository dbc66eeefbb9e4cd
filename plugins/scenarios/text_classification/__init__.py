"""Text classification: folders or tables of texts to classes."""
