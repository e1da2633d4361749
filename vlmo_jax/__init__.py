"""VLMo and its pre-training on images and text, in JAX."""
