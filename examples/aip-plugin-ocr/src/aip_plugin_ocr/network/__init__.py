"""Networks for lines of text, given as a list of layers or as a text."""
