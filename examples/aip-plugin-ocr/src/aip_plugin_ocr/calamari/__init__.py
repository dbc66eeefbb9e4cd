"""Models of Calamari 2: their files, read as data, their preparation of lines, and the command that imports them."""
