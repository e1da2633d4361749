"""What the tasks share: how they read a config, and that most need nothing beside their batches."""

import functools
import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from vlmo_jax.commands.config_errors import require
from vlmo_jax.commands.fields import Extra, Kind, Number, Whole

WEIGHT = Number(low=0, high=1_000_000, zero="off")  # of a loss
CHUNK = Extra(Whole(low=0, zero="all"))  # config.task.contrast_chunk
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
        """Whether dropout, drop-path or a choice of patches draw anything."""
        draws = ("drop_path_rate", "dropout_rate", "sampled_patches")
        return any(self.config.model.get(name, 0) > 0 for name in draws)

    def check_inputs(self) -> None:
        """Nothing is needed."""

    def check(self, batch_shards: int) -> None:
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

    def watch(self, metrics: Mapping[str, float]) -> str:
        """Nothing is known that can go wrong."""
        return ""

    def next_step(self, workdir: Path) -> str:
        """Nothing in particular."""
        return f"its checkpoints are in {workdir}."


def check_heads(config: ConfigDict, part: str, needed: Collection[str]) -> None:
    """Refuses a model that was given parts of its own and lacks some that are needed.

    Args:
        config: of a recipe.
        part: of the config that needs them, such as "task".
        needed: heads out of `models.vlmo_fields.HEADS`.
    """
    heads = config.model.get("heads", None)
    if heads is None:
        return
    missing = sorted(set(needed) - set(heads))
    require(
        not missing,
        f"config.model.heads={tuple(heads)} lacks {', '.join(missing)}, which config.{part}.kind="
        f"{functools.reduce(lambda c, name: c[name], part.split('.'), config).kind!r} needs",
    )


def check_contrast_chunk(config: ConfigDict, batch_shards: int) -> None:
    """Refuses chunks of the contrast that do not divide the rows of a shard.

    Args:
        config: of a recipe that trains.
        batch_shards: mesh data x fsdp, over which the batch divides.
    """
    chunk, rows = config.task.get("contrast_chunk", 0), config.batch_size // batch_shards
    require(
        not chunk or rows % chunk == 0,
        f"config.task.contrast_chunk={chunk} does not divide the {rows} rows that each of the"
        f" {batch_shards} batch shards has of config.batch_size={config.batch_size}; use a divisor"
        f" such as {math.gcd(chunk, rows)} or {rows}, or 0 for all pairs at once",
    )


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
