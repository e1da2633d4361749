"""What all evaluations have: a name, a schedule, and the splits that they score."""

import dataclasses
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, TypeVar

from ml_collections import ConfigDict

from vlmo_jax.commands.config_errors import ConfigError, multiple, naming, require
from vlmo_jax.commands.fields import Extra, Flag, Kind, Several, Text, Whole
from vlmo_jax.datasets import open_source
from vlmo_jax.evals.evaluation import evaluation_splits
from vlmo_jax.input.pipeline import Loading
from vlmo_jax.input.text.tokenizer import Tokenizer
from vlmo_jax.recipes.data import opening
from vlmo_jax.recipes.protocols import Data, TaskRecipe
from vlmo_jax.recipes.visual import seen_by

Part = TypeVar("Part")

# Of files in a work folder.
TAKEN_NAMES = (
    "checkpoints",
    "config",
    "curves",
    "metrics",
    "predictions",
    "results",
    "tensorboard",
    "tokenizer",
)
PAGES = "evaluation_"  # begins the names of pictures of mode=eval


def check_name(name: str, others: Collection[str]) -> None:
    """Refuses a member of `config.evals` after whose name no files or metrics can be named.

    Args:
        name: of the member.
        others: the names of all.

    Raises:
        ConfigError: it has other letters, is too long, or a run has such a file of its own.
    """
    require(
        re.fullmatch(r"\w[\w-]{0,49}", name) is not None,
        f"config.evals has a member {name[:60]!r}, after which files and metrics are named; use up"
        " to 50 letters, digits, _ and -",
    )
    taken = name in TAKEN_NAMES or name.partition(PAGES)[2] in others
    require(
        not taken,
        f"config.evals.{name}: a run has a file of its own of this name; use another",
    )


class SplitsRecipe:
    """The part of an EvaluationRecipe of `protocols.py` that does not depend on what is measured.

    Args:
        name: in `config.evals`.
        config: of a recipe.
        data, task: of the same recipe.

    Attributes:
        fields: `config.evals.<name>`.
        splits: name -> records, once it is open.
    """

    allowed: Mapping[str, Kind] = {
        "kind": Text(),
        "source": Text(optional=True),
        "splits": Several(
            Text(longest=255),
            what="names of splits in brackets with a comma behind each",
            distinct=True,
        ),
        "every_steps": Whole(above=0),
        "batch_size": Whole(above=0),
        "averaged": Extra(Flag()),
    }
    page_at_start = False

    def __init__(self, name: str, config: ConfigDict, data: Data, task: TaskRecipe) -> None:
        self.name, self.config = name, config
        self.fields = config.evals[name]
        self.splits: dict[str, Sequence] = {}
        self._data = data

    @property
    def tokenizer(self) -> Tokenizer:
        """Of the recipe's texts, once its data are open; see `require_texts`."""
        assert self._data.tokenizer is not None
        return self._data.tokenizer

    def loading(self) -> Loading:
        """How batches are made: as those of training, but in no processes of their own while it
        goes on.
        """
        loading = opening.loading(self.config)
        if self.config.mode == "eval":
            return loading
        return dataclasses.replace(loading, num_workers=0)

    def require_texts(self) -> None:
        """Refuses a recipe whose config has no tokenizer.

        Raises:
            ConfigError: it has none.
        """
        require(
            "tokenizer" in self.config,
            f"config.evals.{self.name} reads texts, for which config.data.kind="
            f"{self.config.data.kind!r} has no tokenizer",
        )

    def require_statistics(self) -> None:
        """Refuses a recipe whose model sees images, and whose data do not say how to normalise
        them.

        Raises:
            ConfigError: there is no mean or no deviation.
        """
        normalised = ("mean", "std") if seen_by(self.config).normalised else ()
        missing = [name for name in normalised if name not in self.config.data]
        require(
            not missing,
            f"config.evals.{self.name} scores images, of which"
            f" config.data.kind={self.config.data.kind!r} does not say {' and '.join(missing)}",
        )

    def require_part(self, field: str, part: Any, kind: type[Part]) -> Part:
        """A part of the recipe, which must be of the kind that this evaluation is made for.

        Raises:
            ConfigError: it is of another.
        """
        if not isinstance(part, kind):
            raise ConfigError(
                f"config.evals.{self.name}.kind={self.fields.kind!r} does not go with"
                f" config.{field}.kind={self.config[field].kind!r}"
            )
        return part

    def check(self, batch_shards: int) -> None:
        """See `protocols.EvaluationRecipe`."""
        multiple(
            f"evals.{self.name}.batch_size",
            self.fields.batch_size,
            batch_shards,
            "the batch shards, mesh data x fsdp",
        )
        require(
            not self.fields.get("averaged", False) or self.config.optimizer.ema_decay > 0,
            f"config.evals.{self.name}.averaged=True needs averaged parameters; set"
            " --config.optimizer.ema_decay=0.9999 for a run that keeps them",
        )

    def open(self) -> None:
        """See `protocols.EvaluationRecipe`."""
        self.open_splits(open_source)

    def facts(self, split: str) -> dict[str, Any]:
        """See `protocols.EvaluationRecipe`."""
        return {"protocol": self.fields.kind, "examples": len(self.splits[split])}

    def open_splits(self, open_split: Callable[[str, str], Sequence]) -> None:
        """Opens the splits.

        Args:
            open_split: function of a data set and a split.

        Raises:
            ConfigError: there is no such data set or split, or it is damaged or of another kind.
        """
        data = self.config.data
        own = f"evals.{self.name}.source" if self.fields.source else "data.source"
        chosen = (f"evals.{self.name}.splits",) if self.fields.splits else ()
        with naming(self.config, own, *chosen):
            self.splits = evaluation_splits(self.fields, data.source, data.split, open_split)
