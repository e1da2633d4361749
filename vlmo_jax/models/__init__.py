"""Models: arrays in, features and logits out."""
