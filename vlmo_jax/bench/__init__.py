"""Measures speed, memory and traffic of a recipe: `python -m vlmo_jax.bench`."""
