"""Text line recognition: images of varying width to characters."""
