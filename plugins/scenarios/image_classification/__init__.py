"""Image classification: folders or lists of images to classes."""
