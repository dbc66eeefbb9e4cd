"""Reading lines of text: images of varying width to characters."""
