"""Decoding of logits to text: prefix beam search, with a word list or a character n-gram model."""
