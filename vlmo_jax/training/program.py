"""The program of a run: the compiled step with its shapes and shardings, and the state it starts
from.

Initial state comes from one of three places, decided in `initial_state`: the work folder's own
checkpoint (exact resume), `config.init_from` (parameters of another run), or the seed.
"""

import dataclasses
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from flax import nnx
from ml_collections import ConfigDict

from vlmo_jax.checkpoints.damage import DamagedCheckpointError
from vlmo_jax.checkpoints.state import TrainState
from vlmo_jax.checkpoints.store import Checkpoints, abstract_like
from vlmo_jax.checkpoints.warm_start.load import warm_start
from vlmo_jax.commands.config_errors import ConfigError, naming
from vlmo_jax.commands.endings import UserError
from vlmo_jax.models.build import abstract_model, random_params
from vlmo_jax.parallel import sharding
from vlmo_jax.parallel.agreement import any_process, wait_for_all
from vlmo_jax.parallel.compiler_options import compiler_options
from vlmo_jax.recipes import Recipe
from vlmo_jax.recipes.tasks.settings import NO_INIT
from vlmo_jax.reports.metrics import announce
from vlmo_jax.training.optimizer import make_optimizer
from vlmo_jax.training.same_run import check_same_run
from vlmo_jax.training.train_step import Update, jit_step, state_shardings


@dataclasses.dataclass
class Program:
    """The jitted step with what it needs: shapes, shardings, and the parts it was built from.

    Attributes:
        recipe: of the run.
        mesh: the mesh of the job.
        update: what the step computes.
        abstract_state: TrainState of shapes with shardings.
        shardings: TrainState of shardings.
        step: (state, frozen, batch) -> (state, metrics), jitted.
    """

    recipe: Recipe
    mesh: jax.sharding.Mesh
    update: Update
    abstract_state: TrainState
    shardings: TrainState
    step: jax.stages.Wrapped

    @property
    def config(self) -> ConfigDict:
        """The recipe's config."""
        return self.recipe.config

    @property
    def _options(self) -> dict[str, str | bool]:
        return compiler_options(self.mesh.devices.flat)

    def compile(self) -> tuple[Callable, float, Any]:
        """Compiles the step before the loop; returns it with its compile seconds and memory
        analysis.
        """
        batch = self._place(self.recipe.abstract_batch(), sharding.batch_sharding(self.mesh))
        frozen = self._place(self.recipe.abstract_frozen(), sharding.replicated(self.mesh))
        start = time.perf_counter()
        lowered = self.step.lower(self.abstract_state, frozen, batch)
        compiled = lowered.compile(compiler_options=self._options)
        return compiled, time.perf_counter() - start, compiled.memory_analysis()

    @staticmethod
    def _place(shapes: Any, where: jax.sharding.Sharding) -> Any:
        return jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where), shapes
        )

    def load_frozen(self) -> Any:
        """The parameters that never change, on every device."""
        return jax.device_put(self.recipe.load_frozen(), sharding.replicated(self.mesh))

    def place_batch(self, batch: Mapping[str, np.ndarray]) -> dict[str, jax.Array]:
        """The arrays of a batch that the step reads, on the devices."""
        read = {name: batch[name] for name in self.update.task.reads}
        return sharding.place_batch(read, self.mesh)

    def random_params(self) -> Any:
        """The parameters that the seed gives, as a pure nested dict; traced."""
        return random_params(self.recipe.make_model, self.config.seed)

    def random_state(self) -> TrainState:
        """A first TrainState with random parameters from the seed, the same on every mesh."""
        start = lambda: self.update.random_state(self.recipe.make_model)
        options = self._options
        return jax.jit(start, out_shardings=self.shardings, compiler_options=options)()

    def first_state(self, params: Any) -> TrainState:
        """A first TrainState with the given parameters, already in their shards."""
        parts = lambda state: dataclasses.replace(state, params=None)
        rest = jax.jit(
            lambda params: parts(self.update.first_state(params)),
            out_shardings=parts(self.shardings),
            compiler_options=self._options,
        )(params)
        return dataclasses.replace(rest, params=params)


def build_program(recipe: Recipe, mesh: jax.sharding.Mesh) -> Program:
    """Builds model, optimizer, shardings and jitted step of a recipe, allocating nothing."""
    config = recipe.config
    graphdef, params = abstract_model(recipe.make_model)
    shapes = nnx.to_pure_dict(params)
    optimizer = make_optimizer(shapes, total_steps=config.steps, **config.optimizer.to_dict())
    update = Update(recipe.make_task(), optimizer, graphdef, config.seed, config.accumulation)
    state = jax.eval_shape(update.first_state, shapes)
    shardings = state_shardings(state, params, mesh, update.task.extra_axes)
    step = jit_step(update, shardings, mesh)
    return Program(recipe, mesh, update, abstract_like(state, shardings), shardings, step)


def initial_state(program: Program, checkpoints: Checkpoints) -> tuple[TrainState, str]:
    """The state to start from, and where it came from in words.

    1. A checkpoint in the work folder: everything, exactly as it was.
    2. `config.init_from`: the parameters of another run by `config.init_rules`; moments and step
       start anew.
    3. Neither: random parameters from the seed.

    Raises:
        ConfigError: the work folder holds a run with another config, parameters alone, or nothing
            but damaged checkpoints.
    """
    config = program.config
    if (resumed := _resume(program, checkpoints)) is not None:
        return resumed
    if config.init_from and config.init_from != NO_INIT:
        with naming(config, "init_from"):
            params, report = warm_start(
                config.init_from,
                program.abstract_state.params,
                program.random_params,
                rules=config.init_rules,
                fresh=config.init_fresh,
                model=config.model.to_dict(),
                tokenizer=program.recipe.tokenizer_meta(),
                lists=program.recipe.data.preprocessing(),
            )
        return program.first_state(params), "\n".join(report.summary()).removeprefix(
            "Warm start from "
        )
    return program.random_state(), f"random parameters, seed {config.seed}"


def _resume(program: Program, checkpoints: Checkpoints) -> tuple[TrainState, str] | None:
    """The state of the newest whole checkpoint of the work folder, and its name; None where there
    is none. Damaged ones are set aside.
    """
    while (step := checkpoints.latest_step()) is not None:
        damage = None
        try:
            state = _restore(program, checkpoints, step)
        except DamagedCheckpointError as error:
            damage = error
        if not any_process(damage is not None):
            return state, f"step {step} of {checkpoints.directory}"
        if jax.process_index() == 0:
            place = checkpoints.set_aside(step)
            announce(f"WARNING: {damage or 'a checkpoint is damaged'}. It was moved to {place}")
        wait_for_all("checkpoint set aside")
        checkpoints.reload()
    if damaged := checkpoints.damaged():
        raise ConfigError(
            f"{checkpoints.directory} has no whole checkpoint left, and {damaged[0].parent} has"
            f" {len(damaged)} that are damaged; copy a whole one into {checkpoints.directory}, or"
            " use another --workdir to start anew"
        )
    return None


def _restore(program: Program, checkpoints: Checkpoints, step: int) -> TrainState:
    directory = checkpoints.directory
    try:
        checkpoints.check_resumable(step)
        meta = checkpoints.meta(step)
        check_same_run(program.recipe, meta, directory)
        return checkpoints.restore(step, program.abstract_state)
    except UserError:
        raise
    except ValueError as error:
        raise ConfigError(str(error)) from error


def compiled_bytes(memory: Any) -> int:
    """Bytes a device that a compiled program needs by its memory analysis: arguments, results and
    temporaries.
    """
    needed = memory.temp_size_in_bytes + memory.argument_size_in_bytes + memory.output_size_in_bytes
    return needed - memory.alias_size_in_bytes
