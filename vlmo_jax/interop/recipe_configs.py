"""The whole config of a converted checkpoint: a recipe's, with the model that was found.

With it the checkpoint is rebuilt like one of a run.
"""

import json
from collections.abc import Mapping
from typing import Any

from vlmo_jax.commands.command_line import read_config


def whole_config(recipe: str, model: Mapping[str, Any], **data: Any) -> dict[str, Any]:
    """A recipe's config with another model.

    Args:
        recipe: such as "stage3:base".
        model: the part `model`, with its `kind`, instead of the recipe's.
        data: fields of the part `data` that differ from the recipe's.

    Returns:
        Plain JSON values.
    """
    config = json.loads(read_config(recipe, {}).to_json())
    return {**config, "model": dict(model), "data": {**config["data"], **data}}
