"""The program of a run: the compiled step with its shapes and shardings, and the state it starts
from.

Initial state comes from one of three places, decided in `initial_state`: the work folder's own
checkpoint (exact resume), `config.init_from` (parameters of another run), or the seed.
"""

import dataclasses
import json
import time
from typing import Any

import jax
import numpy as np
from flax import nnx

from vlmo_jax.checkpoints import store
from vlmo_jax.checkpoints.earlier import upgrade_config
from vlmo_jax.checkpoints.warm_start.load import warm_start
from vlmo_jax.commands.config_errors import ConfigError
from vlmo_jax.models.build import abstract_model
from vlmo_jax.parallel import sharding
from vlmo_jax.recipes.checks import NO_INIT, naming
from vlmo_jax.training.optimizer import make_optimizer
from vlmo_jax.training.train_step import (
    TrainState,
    abstract_trainable,
    init_state,
    make_train_step,
    state_shardings,
)

# Fields that may change between a run and its resumption; any other change makes it another run.
RESUMABLE = (
    "mode",
    "init_from",
    "init_rules",
    "init_fresh",
    "mesh",
    "checkpoint",
    "log_every",
    "evals",
    "accumulation",
)
RESUMABLE_DATA = ("num_workers", "num_threads", "prefetch", "max_broken_fraction")


@dataclasses.dataclass
class Program:
    """The compiled step with what it needs: shapes, shardings, and the parts it was built from."""

    recipe: Any
    mesh: jax.sharding.Mesh
    graphdef: Any
    optimizer: Any
    partition: Any
    abstract_state: TrainState
    shardings: TrainState
    step: Any

    @property
    def config(self):
        return self.recipe.config

    def compile(self):
        """Compiles the step before the loop; returns it with its compile seconds and memory
        analysis.
        """
        batch = sharding.batch_sharding(self.mesh)
        shapes = {
            name: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=batch)
            for name, x in self.recipe.abstract_batch().items()
        }
        start = time.perf_counter()
        compiled = self.step.lower(self.abstract_state, shapes).compile()
        return compiled, time.perf_counter() - start, compiled.memory_analysis()

    def random_params(self):
        """The parameters that the seed gives, as a pure nested dict."""
        with nnx.use_eager_sharding(False):
            return nnx.to_pure_dict(nnx.state(self.recipe.make_model(nnx.Rngs(self.config.seed))))

    def random_state(self):
        """A first TrainState with random parameters from the seed."""
        return init_state(
            self.recipe.make_model,
            self.optimizer,
            self.config.seed,
            self.shardings,
            partition=self.partition,
            extra=self.recipe.load_extra(),
        )

    def first_state(self, params):
        """A first TrainState with the given parameters, already in their shards."""
        trainable = params if self.partition is None else self.partition.trainable(params)
        opt_state = jax.jit(self.optimizer.init, out_shardings=self.shardings.opt_state)(trainable)
        zero, extra = jax.device_put(
            (np.zeros((), np.int32), self.recipe.load_extra()),
            (self.shardings.step, self.shardings.extra),
        )
        return TrainState(zero, params, opt_state, extra)


def build_program(recipe, mesh):
    """Builds model, optimizer, shardings and jitted step of a recipe, without allocating anything."""
    config = recipe.config
    graphdef, abstract_params = abstract_model(recipe.make_model)
    shapes, extra = nnx.to_pure_dict(abstract_params), recipe.abstract_extra()
    with naming(config, "optimizer.frozen"):
        optimizer, schedule, partition = make_optimizer(
            shapes, total_steps=config.steps, **config.optimizer.to_dict()
        )
    shardings = state_shardings(abstract_params, optimizer, mesh, partition=partition, extra=extra)
    step = make_train_step(
        recipe.make_task(),
        graphdef,
        optimizer,
        schedule,
        seed=config.seed,
        mesh=mesh,
        shardings=shardings,
        partition=partition,
        accumulation=config.accumulation,
    )
    moments = jax.eval_shape(optimizer.init, abstract_trainable(shapes, partition))
    abstract = TrainState(jax.ShapeDtypeStruct((), np.int32), shapes, moments, extra)
    abstract = store.abstract_like(abstract, shardings)
    return Program(recipe, mesh, graphdef, optimizer, partition, abstract, shardings, step)


def initial_state(program, checkpoints):
    """The state to start from, and where it came from in words.

    1. A checkpoint in the work folder: everything, exactly as it was. 2. `config.init_from`: the
    parameters of another run by `config.init_rules`; moments and step start anew. 3. Neither:
    random parameters from the seed.

    Raises:
        ConfigError: the work folder holds a run with another config, or parameters alone.
    """
    config = program.config
    step = checkpoints.latest_step()
    if step is not None:
        if not checkpoints.can_resume(step):
            raise ConfigError(
                f"{checkpoints.directory}/{step} holds parameters alone, as a converted checkpoint"
                " does: no run can go on there; start from them with"
                f" --config.init_from={checkpoints.directory.parent} and another --workdir"
            )
        _check_same_run(config, checkpoints.meta(step)["config"], checkpoints.directory)
        return (
            checkpoints.restore(step, program.abstract_state),
            f"step {step} of {checkpoints.directory}",
        )
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
            )
        return program.first_state(params), "\n".join(report.summary()).removeprefix(
            "Warm start from "
        )
    return program.random_state(), f"random parameters, seed {config.seed}"


def _check_same_run(config, saved, directory):
    now = upgrade_config(json.loads(config.to_json()))
    differences = []
    for key in sorted(set(now) | set(saved)):
        if key in RESUMABLE or now.get(key) == saved.get(key):
            continue
        if isinstance(now.get(key), dict) and isinstance(saved.get(key), dict):
            skipped = RESUMABLE_DATA if key == "data" else ()
            fields = [f for f in sorted(set(now[key]) | set(saved[key])) if f not in skipped]
            changed = [(f"{key}.{f}", saved[key].get(f), now[key].get(f)) for f in fields]
            differences += [change for change in changed if change[1] != change[2]]
        else:
            differences.append((key, saved.get(key), now.get(key)))
    if differences:
        raise ConfigError(
            f"{directory} holds a run with another config: "
            + ", ".join(f"config.{key} was {old} and is {new}" for key, old, new in differences)
            + "; use another --workdir, or give the old values to go on"
        )


def compiled_bytes(memory):
    """Bytes a device that a compiled program needs by its memory analysis: arguments, results and
    temporaries.
    """
    return (
        memory.temp_size_in_bytes
        + memory.argument_size_in_bytes
        + memory.output_size_in_bytes
        - memory.alias_size_in_bytes
    )
