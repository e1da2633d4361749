"""The parts of a recipe, and what they ask of each other.

A recipe is four fields of a config: `model`, `data`, `task` and `evals`. Each names its kind, which
is looked up in a table: models/build.py, and `data`, `tasks` and `evaluations` beside this file. A
part reads its own field; of other fields it reads sizes that both must agree on, such as
`config.model.image_size`. What its fields may be stands in its `allowed` (see commands/fields.py),
to which a config is held before anything else is asked of the part.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import jax
from flax import nnx

from vlmo_jax.commands.fields import Kind
from vlmo_jax.evals.evaluation import Evaluation
from vlmo_jax.input.schema import Batch, Rows
from vlmo_jax.input.text.tokenizer import Tokenizer
from vlmo_jax.tasks.protocols import Task


class Batches(Iterator[Batch], Protocol):
    """The training batches of a process; a context manager, whose end ends what makes them.

    Attributes:
        texts: rows with a text so far.
        truncated: how many of the texts were too long for them.
    """

    texts: int
    truncated: int

    def __enter__(self) -> "Batches":
        """Itself."""

    def __exit__(self, *exception: Any) -> None:
        """Ends threads and processes."""


class Data(Protocol):
    """What is trained on: records, and how they become batches."""

    @property
    def allowed(self) -> Mapping[str, Kind]:
        """What its fields may be."""

    @property
    def unit(self) -> str:
        """What a batch is made of, in the plural."""

    @property
    def tokenizer(self) -> Tokenizer | None:
        """Of the texts, once the data are open; None where there are none."""

    @property
    def rows(self) -> Rows:
        """Sizes that say what a batch consists of."""

    def check_inputs(self) -> None:
        """Refuses configs that do not say what to read; opens nothing.

        Raises:
            ConfigError: at the first field that is not set.
        """

    def check(self) -> None:
        """Refuses impossible values of `config.data`.

        Raises:
            ConfigError: at the first of them.
        """

    def open(self, *, training: bool) -> None:
        """Opens the tokenizer and, for training, the records.

        Raises:
            ConfigError: one that is missing, damaged, or does not fit.
        """

    def identity(self) -> dict[str, Any]:
        """By what a run that goes on knows its records again, once they are open: see
        datasets/identity.py.
        """

    def batches(self, start_step: int) -> Batches:
        """The training batches of this process from `start_step` to the end."""

    def describe(self) -> str:
        """What is trained on, in a few words."""

    def describe_long_texts(self, share: float) -> str:
        """What was done with the texts, of which a `share` were too long for a row, in words."""

    def preprocessing(self) -> dict[str, Any]:
        """How inputs become arrays, kept with every checkpoint: plain JSON values."""


@runtime_checkable
class BringsFiles(Protocol):
    """Data whose files a model is of no use without, such as the list of its answers."""

    def files(self) -> dict[str, bytes]:
        """Name -> contents, once the data are open; a checkpoint carries them."""


class TaskRecipe(Protocol):
    """What is learned: builds a Task, and knows what the run needs for it."""

    @property
    def allowed(self) -> Mapping[str, Kind]:
        """What its fields may be."""

    @property
    def needs(self) -> type:
        """Protocol of tasks/abilities.py that the model must fulfil."""

    def check_inputs(self) -> None:
        """Refuses configs that do not say what to start from; opens nothing."""

    def check(self, batch_shards: int) -> None:
        """Refuses impossible values of `config.task` and of what else the task reads.

        Args:
            batch_shards: parts of a batch on the mesh, data x fsdp.
        """

    def open(self) -> None:
        """Opens what the task reads beside the data, such as another model's checkpoint."""

    def make(self) -> Task:
        """The task."""

    def load_frozen(self) -> Any:
        """Parameters that the step reads and never changes: a tree of numpy arrays."""

    def abstract_frozen(self) -> Any:
        """Shapes and types of `load_frozen`, without reading anything."""

    def frozen_meta(self) -> dict[str, Any]:
        """By what a run that goes on knows `load_frozen` again: name -> plain JSON values."""

    @property
    def reads(self) -> tuple[str, ...]:
        """Names of the arrays of a batch that the task reads."""

    def forward_flops(self) -> int:
        """FLOPs of the forward passes of a training step, an example (see models/flops.py)."""

    def describe(self) -> str:
        """What is learned, in a few words behind those of the data; may be empty."""

    def watch(self, metrics: Mapping[str, float]) -> str:
        """What people should know of a training that goes wrong, in words; "" if nothing does.

        Args:
            metrics: of the steps since it was last asked, their means by name.

        Raises:
            UserError: the run should end.
        """

    def next_step(self, workdir: Path) -> str:
        """What to do with the finished run in `workdir`, in words and commands."""


class EvaluationRecipe(Protocol):
    """A named member of `config.evals`.

    Attributes:
        splits: name -> records, once it is open.
    """

    splits: dict[str, Sequence]

    @property
    def allowed(self) -> Mapping[str, Kind]:
        """What its fields may be."""

    @property
    def page_at_start(self) -> bool:
        """Whether the evaluation before the first step draws its picture too, for one of before
        and after.
        """

    @property
    def needs(self) -> type:
        """Protocol of tasks/abilities.py that the model must fulfil."""

    def check(self, batch_shards: int) -> None:
        """Refuses impossible values, on a mesh that splits a batch so many ways."""

    def open(self) -> None:
        """Opens its splits."""

    def facts(self, split: str) -> dict[str, Any]:
        """What a result of a split is about, once it is open: plain JSON values, `protocol` (words)
        and counts among them, such as `images`, `texts` or `examples`.
        """

    def make(self, graphdef: nnx.GraphDef, mesh: jax.sharding.Mesh) -> Evaluation:
        """The evaluation, once the data are open."""
