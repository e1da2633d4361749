"""Recipes: from a config to the objects of a run."""

from vlmo_jax.recipes.recipe import Recipe

__all__ = ["Recipe"]
