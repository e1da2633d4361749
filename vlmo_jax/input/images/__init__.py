"""Image files to pixels: decoding, views, masks of patches."""
