"""A run as fields: its model, data, task and evaluations, built from a config."""

import contextlib
import functools
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx
from ml_collections import ConfigDict

from vlmo_jax.checkpoints.carried import pack_files
from vlmo_jax.checkpoints.warm_start.plan import check_rules
from vlmo_jax.commands.config_errors import ConfigError, multiple, one_of, require
from vlmo_jax.commands.fields import (
    Anything,
    Choice,
    Extra,
    Flag,
    Kind,
    Number,
    Part,
    Several,
    Text,
    Whole,
    check_fields,
)
from vlmo_jax.evals.evaluation import Evaluation
from vlmo_jax.input.schema import Batch
from vlmo_jax.input.text.tokenizer import Tokenizer
from vlmo_jax.models.build import MODELS, check_model, model_maker
from vlmo_jax.parallel import sharding
from vlmo_jax.parallel.memory import host_bytes
from vlmo_jax.recipes.data import DATA
from vlmo_jax.recipes.evaluations import EVALUATIONS
from vlmo_jax.recipes.evaluations.splits import check_name
from vlmo_jax.recipes.memory import check_evaluation, check_input, check_training
from vlmo_jax.recipes.protocols import Batches, BringsFiles, Data, EvaluationRecipe, TaskRecipe
from vlmo_jax.recipes.tasks import TASKS
from vlmo_jax.tasks.protocols import Task
from vlmo_jax.training.optimizer import check_optimizer, check_schedule

# What the fields may be that belong to no part.
FIELDS: dict[str, Kind] = {
    "mode": Choice(("train", "eval")),
    "model": Part(),
    "data": Part(),
    "task": Part(),
    "evals": Part(),
    "optimizer": Part(),
    "mesh": Part(),
    "checkpoint": Part(),
    "seed": Whole(low=0, high=2**32 - 1),
    "init_from": Text(optional=True),
    "init_rules": Anything(),
    "init_fresh": Anything(),
    "batch_size": Whole(above=0),
    "steps": Whole(above=0),
    "accumulation": Whole(above=0),
    "log_every": Whole(above=0),
    "compilation_cache": Extra(Flag()),
    "profile": Extra(Several(Whole(above=0), 2, "(first, last), two steps", optional=True)),
    "tokenizer": Extra(Text(optional=True)),
    "visual_tokenizer": Extra(Text(optional=True)),
}
MESH: dict[str, Kind] = {axis: Whole() for axis in sharding.MESH_AXES}
CHECKPOINT: dict[str, Kind] = {
    "every_steps": Whole(above=0),
    "every_minutes": Number(above=0),
    "keep_last": Whole(above=0),
    "best_metric": Text(optional=True),
}


class Recipe:
    """What train, evaluate and bench ask of a config.

    `check` comes first, then, for a run that reads data, `open`. Neither model nor batches are made
    before they are asked for.

    Args:
        config: ConfigDict of a recipe.

    Attributes:
        config: the same.
        data, task: see protocols.py.
        evaluations: name in `config.evals` -> EvaluationRecipe.

    Raises:
        ConfigError: a kind that is not known, a field of another type or out of range, or parts
            that do not go together.
    """

    def __init__(self, config: ConfigDict) -> None:
        self.config = config
        check_fields("", config, FIELDS)
        for part, kinds in (("model", MODELS), ("data", DATA), ("task", TASKS)):
            one_of(f"{part}.kind", config[part].get("kind"), tuple(kinds))
        self.data: Data = DATA[config.data.kind](config)
        check_fields("data", config.data, self.data.allowed)
        self.task: TaskRecipe = TASKS[config.task.kind](config)
        check_fields("task", config.task, {"kind": Anything(), **self.task.allowed}, closed=True)
        self.evaluations = {name: self._make_evaluation(name) for name in config.evals}
        needed = {"task": self.task.needs}
        needed |= {f"evals.{name}": part.needs for name, part in self.evaluations.items()}
        for name, protocol in needed.items():
            self._check_model_serves(name, protocol)

    def _make_evaluation(self, name: str) -> EvaluationRecipe:
        config, part = self.config, self.config.evals[name]
        check_name(name, list(config.evals))
        Part().check(f"evals.{name}", part)
        one_of(f"evals.{name}.kind", part.get("kind"), tuple(EVALUATIONS))
        evaluation = EVALUATIONS[part.kind](name, config, self.data, self.task)
        check_fields(f"evals.{name}", part, evaluation.allowed)
        return evaluation

    def _check_model_serves(self, part: str, protocol: type) -> None:
        fitting = [kind for kind, model in MODELS.items() if issubclass(model.module, protocol)]
        kind = self.config.model.kind
        require(
            kind in fitting,
            f"config.model.kind={kind!r} has not what config.{part} asks of a model"
            f" ({protocol.__name__}); use one of {', '.join(fitting)}",
        )

    @property
    def tokenizer(self) -> Tokenizer | None:
        """Of the texts, once the recipe is open; None where there are none."""
        return self.data.tokenizer

    def check_inputs(self) -> None:
        """Refuses configs that do not say what to read; opens nothing, and asks nothing of the
        devices.

        Raises:
            ConfigError: at the first field that is not set.
        """
        self.data.check_inputs()
        self.task.check_inputs()

    def check(self, num_devices: int, memory: int | None = None) -> None:
        """Refuses impossible configs, those of `check_inputs` included.

        Args:
            num_devices: of the job.
            memory: bytes of each device; None: not known, and not checked.

        Raises:
            ConfigError: at the first impossible value or combination.
        """
        mesh = self._check_run(num_devices)
        shards = mesh[0] * mesh[1]
        with self._naming_missing_fields():
            for evaluation in self.evaluations.values():
                evaluation.check(shards)
            check_model(self.config.model, mesh)
            self.check_inputs()
            if self.config.mode == "train":
                self._check_data_serve()
                self.data.check()
                self.task.check(shards)
            if memory is not None:
                self._check_memory(mesh, memory)

    def _check_memory(self, mesh: tuple[int, int, int], memory: int) -> None:
        if self.config.mode == "train":
            columns = self.data.rows.columns.values()
            row_bytes = sum(math.prod(c.shape) * np.dtype(c.dtype).itemsize for c in columns)
            check_training(self.config, mesh, memory, row_bytes)
            check_input(self.config, jax.process_count(), host_bytes(), row_bytes)
        for name in self.evaluations:
            check_evaluation(self.config, name, mesh, memory)

    @contextlib.contextmanager
    def _naming_missing_fields(self) -> Iterator[None]:
        """A field that one part asks for and another part's config has not: a ConfigError."""
        try:
            yield
        except AttributeError as error:
            if not isinstance(error.args[0], KeyError):  # ConfigDict's own way of saying so
                raise
            kinds = ", ".join(f"{p}.kind={self.config[p].kind}" for p in ("model", "data", "task"))
            raise ConfigError(
                f"config.{kinds.replace(', ', ', config.')} do not go together: one asks for the"
                f" field {error.args[0].args[0].splitlines()[0]}"
            ) from error

    def _check_data_serve(self) -> None:
        missing = sorted(set(self.task.reads) - set(self.data.rows.columns))
        require(
            not missing,
            f"config.task.kind={self.config.task.kind!r} reads {', '.join(missing)}, which"
            f" config.data.kind={self.config.data.kind!r} does not give; use data that do",
        )

    def _check_run(self, num_devices: int) -> tuple[int, int, int]:
        """Checks the fields that belong to no part; returns the shape of the mesh."""
        config = self.config
        check_fields("mesh", config.mesh, MESH)
        check_fields("checkpoint", config.checkpoint, CHECKPOINT)
        check_optimizer(config.optimizer)
        check_rules(config.init_rules, config.init_fresh)
        try:
            mesh = sharding.mesh_shape(config.mesh, num_devices)
        except ValueError as error:
            raise ConfigError(str(error)) from error
        if config.mode == "train":
            self._check_training(mesh[0] * mesh[1])
        require(
            config.mode == "train" or bool(self.evaluations),
            "config.mode='eval' has nothing to do: config.evals is empty; give it a member",
        )
        return mesh

    def _check_training(self, shards: int) -> None:
        config, size = self.config, self.config.batch_size
        multiple("batch_size", size, shards, "the batch shards, mesh data x fsdp")
        parts = shards * config.accumulation
        multiple("batch_size", size, parts, "batch shards x config.accumulation")
        multiple("batch_size", size, jax.process_count(), "the processes of this job")
        check_schedule(config.optimizer.schedule, config.optimizer.warmup_steps, config.steps)
        first, last = config.get("profile", ()) or (1, 1)
        require(
            first <= last and first <= config.steps,
            f"config.profile={(first, last)} must be two steps of the {config.steps} of this run,"
            " the first one first",
        )
        best = config.checkpoint.best_metric
        require(
            not best or "/" in best or len(self.evaluations) < 2,
            f"config.checkpoint.best_metric={best!r} is of no one evaluation; write"
            f" {' or '.join(f'{name}/{best}' for name in self.evaluations)} for the mean of the"
            " splits of one",
        )
        parts = best.split("/") if best else []
        evaluation = parts[1] if parts[:1] == ["eval"] and len(parts) > 3 else (parts or [""])[0]
        require(
            len(parts) < 2 or evaluation in self.evaluations,
            f"config.checkpoint.best_metric={best!r} names no evaluation of this run; they are"
            f" {', '.join(self.evaluations) or 'none'}: write EVALUATION/METRIC, such as"
            " retrieval/mean_recall",
        )

    def open(self) -> None:
        """Opens data sets and tokenizers.

        Raises:
            ConfigError: one that is missing, damaged, or does not fit.
        """
        self.task.open()
        self.data.open(training=self.config.mode == "train")
        for evaluation in self.evaluations.values():
            evaluation.open()

    def make_model(self, rngs: nnx.Rngs) -> nnx.Module:
        """Builds the model."""
        return model_maker(self.config.model)(rngs)

    def make_task(self) -> Task:
        """The task."""
        return self.task.make()

    def abstract_batch(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Shapes and types of what the step reads of a batch, by name."""
        columns, size = self.data.rows.columns, self.config.batch_size
        return {
            name: jax.ShapeDtypeStruct((size, *columns[name].shape), columns[name].dtype)
            for name in self.task.reads
        }

    def synthetic_batch(self) -> Batch:
        """What this process contributes to a made-up batch, for benchmarks: numpy arrays."""
        process, rows = jax.process_index(), self.config.batch_size // jax.process_count()
        rng = np.random.default_rng(self.config.seed + process)
        vocab_size = self.config.model.get("vocab_size", 0)
        return self.data.rows.synthetic(rows, rng, vocab_size=vocab_size, first_row=rows * process)

    def batches(self, start_step: int) -> Batches:
        """The training batches of this process from `start_step` to the end: an iterator and
        context manager.
        """
        return self.data.batches(start_step)

    def load_frozen(self) -> Any:
        """What a step reads and never changes, such as the parameters of a visual tokenizer: a tree
        of numpy arrays.
        """
        return self.task.load_frozen()

    def abstract_frozen(self) -> Any:
        """Shapes and types of `load_frozen`, without reading anything."""
        return self.task.abstract_frozen()

    def forward_flops(self) -> int:
        """FLOPs of the forward passes of a training step, an example (see models/flops.py)."""
        return self.task.forward_flops()

    def make_evaluations(
        self, graphdef: nnx.GraphDef, mesh: jax.sharding.Mesh
    ) -> dict[str, Evaluation]:
        """The evaluations of the run by name."""
        return {name: part.make(graphdef, mesh) for name, part in self.evaluations.items()}

    def describe_data(self) -> str:
        """What is trained on, in a few words."""
        return ", ".join(filter(None, (self.data.describe(), self.task.describe())))

    def next_step(self, workdir: Path) -> str:
        """What to do with the finished run in `workdir`, in words and commands."""
        return self.task.next_step(workdir)

    def tokenizer_meta(self) -> dict[str, str] | None:
        """File and SHA-256 of the text tokenizer, or None."""
        if self.tokenizer is None:
            return None
        return {"file": str(self.tokenizer.path), "sha256": self.tokenizer.fingerprint}

    def _files(self) -> dict[str, bytes]:
        """What a checkpoint carries along, so that its model can be used without the data."""
        files = {}
        if self.tokenizer is not None:
            files[f"tokenizer{self.tokenizer.path.suffix}"] = self.tokenizer.contents
        if isinstance(self.data, BringsFiles):
            files |= self.data.files()
        return files

    @functools.cached_property
    def data_identity(self) -> dict[str, Any]:
        """By what the run knows its records again, once the recipe is open; they are read once."""
        return self.data.identity()

    @functools.cached_property
    def frozen_identity(self) -> dict[str, Any]:
        """By what the run knows its frozen models again, once the recipe is open."""
        return self.task.frozen_meta()

    def meta(self) -> dict[str, Any]:
        """What is kept with every checkpoint of an open recipe: plain JSON values."""
        return {
            "config": json.loads(self.config.to_json()),
            "preprocessing": self.data.preprocessing(),
            "tokenizer": self.tokenizer_meta(),
            "files": pack_files(self._files()),
            "data": self.data_identity,
            "frozen": self.frozen_identity,
            "versions": {"jax": jax.__version__},
        }
