"""Records to fixed-shape numpy batches: decoding, augmentation, tokens and masks."""
