"""The program of a run: the compiled step with its shapes and shardings, and the state it starts from.

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

from vlmo_jax import checkpoint, recipe, sharding
from vlmo_jax.train_step import TrainState, abstract_model, init_state, make_train_step, state_shardings

# Fields that may change between a run and its resumption; any other change makes it another run.
RESUMABLE = ("mode", "init_from", "mesh", "checkpoint", "log_every", "evals", "accumulation")
RESUMABLE_DATA = ("num_workers", "num_threads", "prefetch", "max_broken_fraction")


@dataclasses.dataclass
class Program:
    """The compiled step with what it needs: shapes, shardings, and the parts it was built from."""

    config: Any
    mesh: jax.sharding.Mesh
    graphdef: Any
    make_model: Any
    optimizer: Any
    abstract_state: TrainState
    shardings: TrainState
    step: Any

    def compile(self):
        """Compiles the step before the loop; returns it with its compile seconds and memory analysis."""
        batch = sharding.batch_sharding(self.mesh)
        shapes = {
            name: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=batch) for name, x in recipe.abstract_batch(self.config).items()
        }
        start = time.perf_counter()
        compiled = self.step.lower(self.abstract_state, shapes).compile()
        return compiled, time.perf_counter() - start, compiled.memory_analysis()


def build_program(config, mesh):
    """Builds model, optimizer, shardings and jitted step of a recipe, without allocating anything."""
    make_model = recipe.make_model_function(config.model)
    graphdef, abstract_params = abstract_model(make_model)
    shapes = nnx.to_pure_dict(abstract_params)
    optimizer, schedule = recipe.make_recipe_optimizer(config, shapes)
    shardings = state_shardings(abstract_params, optimizer, mesh)
    step = make_train_step(
        recipe.make_task(config), graphdef, optimizer, schedule, seed=config.seed, mesh=mesh, shardings=shardings,
        dropout=config.model.drop_path_rate > 0, accumulation=config.accumulation,
    )  # fmt: skip
    abstract = TrainState(
        jax.ShapeDtypeStruct((), np.int32), shapes, jax.eval_shape(optimizer.init, shapes), {}
    )
    abstract = checkpoint.abstract_like(abstract, shardings)
    return Program(config, mesh, graphdef, make_model, optimizer, abstract, shardings, step)


def initial_state(program, checkpoints):
    """The state to start from, and where it came from in words.

    1. A checkpoint in the work folder: everything, exactly as it was.
    2. `config.init_from`: the parameters of another run; moments and step start anew.
    3. Neither: random parameters from the seed.

    Raises:
      recipe.ConfigError: the work folder holds a run with another config.
    """
    config = program.config
    step = checkpoints.latest_step()
    if step is not None:
        _check_same_run(config, checkpoints.meta(step)["config"], checkpoints.directory)
        return checkpoints.restore(step, program.abstract_state), f"step {step} of {checkpoints.directory}"
    if config.init_from:
        with recipe.naming(config, "init_from"):
            params, step, _ = checkpoint.load_params(config.init_from, program.abstract_state.params)
        opt_state = jax.jit(program.optimizer.init, out_shardings=program.shardings.opt_state)(params)
        zero = jax.device_put(np.zeros((), np.int32), program.shardings.step)
        return TrainState(zero, params, opt_state, {}), f"the parameters of {config.init_from}, step {step}"
    state = init_state(program.make_model, program.optimizer, config.seed, program.shardings)
    return state, f"random parameters, seed {config.seed}"


def _check_same_run(config, saved, directory):
    now = json.loads(config.to_json())
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
        raise recipe.ConfigError(
            f"{directory} holds a run with another config: "
            + ", ".join(f"config.{key} was {old} and is {new}" for key, old, new in differences)
            + "; use another --workdir, or give the old values to go on"
        )


def compiled_bytes(memory):
    """Bytes a device that a compiled program needs by its memory analysis: arguments, results and temporaries."""
    return memory.temp_size_in_bytes + memory.argument_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes
