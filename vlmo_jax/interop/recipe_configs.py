"""The whole config of a converted checkpoint: a recipe's, with the model that was found.

With it the checkpoint is rebuilt like one of a run.
"""

import json
import pathlib
from collections.abc import Mapping
from typing import Any

import vlmo_jax
from vlmo_jax.checkpoints.earlier import upgrade_config
from vlmo_jax.commands.command_line import read_config

CONFIGS = pathlib.Path(vlmo_jax.__file__).parents[1] / "configs"


def whole_config(recipe: str, model: Mapping[str, Any], **data: Any) -> dict[str, Any]:
    """A recipe's config with another model.

    Args:
        recipe: such as "stage3:base".
        model: the part `model`, with its `kind`, instead of the recipe's.
        data: fields of the part `data` that differ from the recipe's.

    Returns:
        Plain JSON values, in the form of today.
    """
    config = upgrade_config(json.loads(read_config(_with_file(recipe), {}).to_json()))
    return {**config, "model": dict(model), "data": {**config["data"], **data}}


def _with_file(recipe: str) -> str:
    """A recipe as the flag --config takes it."""
    name, _, argument = recipe.partition(":")
    return f"{CONFIGS / name}.py:{argument}"
