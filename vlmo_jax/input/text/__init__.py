"""Texts to tokens: tokenizers, captions, rows, masks of words."""
