"""Recipes: from a config to the objects of a run, one class a kind of training data."""

from vlmo_jax.recipes.checks import one_of
from vlmo_jax.recipes.images import ImagesRecipe
from vlmo_jax.recipes.pairs import PairsRecipe
from vlmo_jax.recipes.texts import TextsRecipe
from vlmo_jax.recipes.visual_tokenizer import TokenizerRecipe

__all__ = ["RECIPES", "make_recipe"]

RECIPES = {
    "images": ImagesRecipe,
    "pairs": PairsRecipe,
    "texts": TextsRecipe,
    "tokenizer": TokenizerRecipe,
}


def make_recipe(config):
    """The recipe of `config.kind`; nothing is checked or opened yet.

    Raises:
        ConfigError: an unknown kind.
    """
    one_of("kind", config.kind, tuple(RECIPES))
    return RECIPES[config.kind](config)
