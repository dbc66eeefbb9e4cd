"""Reports on recognized lines: frequent errors, error rates by length, counts of characters, and a page of lines."""
