"""What the tasks share: how they read a config, and that most need nothing beside their batches."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from vlmo_jax.commands.config_errors import require
from vlmo_jax.commands.fields import Kind, Number

WEIGHT = Number(low=0, high=1_000_000, zero="off")  # of a loss
NO_INIT = "none"  # config.init_from of a run that starts from random parameters on purpose


class Settings:
    """A TaskRecipe that starts from random parameters and reads its batches alone.

    Args:
        config: of a recipe.
    """

    allowed: Mapping[str, Kind] = {}

    def __init__(self, config: ConfigDict) -> None:
        self.config = config

    @property
    def weights(self) -> dict[str, Any]:
        """The fields of `config.task` that are arguments of the task."""
        return {name: value for name, value in self.config.task.items() if name != "kind"}

    @property
    def dropout(self) -> bool:
        """Whether dropout and drop-path draw anything."""
        return self.config.model.drop_path_rate > 0

    def check_inputs(self) -> None:
        """Nothing is needed."""

    def check(self) -> None:
        """Nothing can be wrong."""

    def open(self) -> None:
        """Nothing is read."""

    def load_frozen(self) -> Any:
        """Nothing."""
        return {}

    def abstract_frozen(self) -> Any:
        """Nothing."""
        return {}

    def frozen_meta(self) -> dict[str, Any]:
        """Nothing is frozen."""
        return {}

    def describe(self) -> str:
        """Nothing beside the data."""
        return ""

    def next_step(self, workdir: Path) -> str:
        """Nothing in particular."""
        return f"its checkpoints are in {workdir}."


def check_init(config: ConfigDict, needed: str) -> None:
    """Refuses a run without `config.init_from` that needs one, unless `none` is spelled out.

    Args:
        config: of a recipe.
        needed: what the run starts from, in words.
    """
    require(
        bool(config.init_from) or config.mode == "eval",
        f"config.init_from is not set: this recipe starts from {needed}; give"
        f" --config.init_from=DIR, its work folder, or --config.init_from={NO_INIT} to start from"
        " random parameters",
    )
