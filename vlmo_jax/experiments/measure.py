"""What a recipe costs here: seconds a step with its input, of a search, and of scoring a pair. A
program of its own, so that it finds the machine as a run does.

    python -m vlmo_jax.experiments.measure RECIPE OUTPUT.json [FIELD=VALUE ...]
"""

from vlmo_jax.commands.huge_pages import restart_with_huge_pages

if __name__ == "__main__":
    restart_with_huge_pages()  # before the imports that take seconds

import dataclasses
import json
import os
import pathlib
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from vlmo_jax.commands.command_line import read_config
from vlmo_jax.commands.endings import told_in_one_line
from vlmo_jax.experiments.runs import read_settings
from vlmo_jax.models.build import MODELS, count_params
from vlmo_jax.models.flops import TRAINING_FACTOR
from vlmo_jax.parallel import sharding
from vlmo_jax.recipes.visual import seen_by
from vlmo_jax.tasks.abilities import DualEncoder, FusesPairs
from vlmo_jax.tasks.retrieval import Encoders, make_encoders
from vlmo_jax.training.opening import open_recipe
from vlmo_jax.training.program import Program, build_program

WARM_UP, TIMED, SEARCHES = 3, 12, 5
DRAWINGS = 1260  # of the artist that is searched
BATCH = 128  # pairs that are scored at once


@dataclasses.dataclass(frozen=True)
class Measured:
    """What a recipe costs.

    Attributes:
        params: parameters.
        flops: of training on a pair, all passes.
        step_seconds: of a step, its batch included; the median.
        compile_seconds: of the step.
        search_seconds: of one text against DRAWINGS images, by vectors that are there already, or
            by a fused pass for each.
        searches_by: vectors or pairs.
        pair_seconds: of scoring one pair; 0 where it fuses none.
    """

    params: int
    flops: int
    step_seconds: float
    compile_seconds: float
    search_seconds: float
    searches_by: str
    pair_seconds: float


def measure(config: ConfigDict) -> Measured:
    """Takes a few steps of a recipe, and searches with what comes of them.

    Args:
        config: of the recipe.

    Raises:
        ConfigError: the config cannot run.
    """
    recipe = open_recipe(config)
    mesh = sharding.make_mesh(config.mesh)
    with jax.set_mesh(mesh):
        program = build_program(recipe, mesh)
        compiled, compile_seconds, _ = program.compile()
        params, step_seconds = _time_steps(program, compiled)
        module = MODELS[config.model.kind].module
        data = config.data
        encoders = make_encoders(
            program.update.graphdef, mean=tuple(data.mean), std=tuple(data.std)
        )
        batch = recipe.synthetic_batch()
        seen = {name: batch[name] for name in seen_by(config).columns}
        text = {name: batch[name] for name in ("token_ids", "token_mask")}
        pair_seconds, pairs = 0.0, 0.0
        if issubclass(module, FusesPairs):
            pairs = _time_pairs(encoders, params, {**seen, **text})
            pair_seconds = pairs / DRAWINGS
        by_vectors = issubclass(module, DualEncoder)
        search = _time_vectors(encoders, params, text) if by_vectors else pairs
    return Measured(
        params=count_params(params),
        flops=TRAINING_FACTOR * recipe.task.forward_flops(),
        step_seconds=step_seconds,
        compile_seconds=compile_seconds,
        search_seconds=search,
        searches_by="vectors" if by_vectors else "pairs",
        pair_seconds=pair_seconds,
    )


def _time_steps(program: Program, compiled: Callable) -> tuple[Any, float]:
    """Parameters after a few steps, and the median of their seconds."""
    state, frozen, seconds = program.random_state(), program.load_frozen(), []
    with program.recipe.batches(0) as batches:
        for _ in range(WARM_UP + TIMED):
            start = time.perf_counter()
            batch = program.place_batch(next(batches))
            state, metrics = compiled(state, frozen, batch)
            jax.block_until_ready(metrics)
            seconds.append(time.perf_counter() - start)
    return state.params, statistics.median(seconds[WARM_UP:])


def _time_vectors(encoders: Encoders, params: Any, text: Any) -> float:
    """One text against images that have their vectors."""
    one = {name: array[:1] for name, array in text.items()}
    width = encoders.encode_text(params, one).shape[1]
    images = np.random.default_rng(0).normal(size=(DRAWINGS, width)).astype(np.float32)
    search = lambda: np.argsort(-images @ np.asarray(encoders.encode_text(params, one))[0])
    return _median(search)


def _time_pairs(encoders: Encoders, params: Any, batch: Any) -> float:
    """One text against images, a fused pass for each."""
    rows = np.arange(BATCH) % len(batch["token_ids"])
    filled = {name: array[rows] for name, array in batch.items()}

    def search() -> np.ndarray:
        scores = [np.asarray(encoders.match(params, filled)) for _ in range(-(-DRAWINGS // BATCH))]
        return np.argsort(-np.concatenate(scores)[:DRAWINGS])

    return _median(search)


def _median(search: Callable[[], Any]) -> float:
    """Seconds of a search, which has been compiled for."""
    search()
    seconds = []
    for _ in range(SEARCHES):
        start = time.perf_counter()
        search()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def read_measured(path: pathlib.Path) -> Measured:
    """What a file of this command says."""
    return Measured(**json.loads(path.read_text()))


@told_in_one_line()
def main(argv: Sequence[str]) -> None:
    """Measures a recipe and writes the result.

    Args:
        argv: RECIPE OUTPUT.json [FIELD=VALUE ...].
    """
    recipe, output, *settings = argv
    measured = measure(read_config(recipe, read_settings(settings)))
    partial = pathlib.Path(f"{output}.partial")
    partial.write_text(json.dumps(dataclasses.asdict(measured), indent=2) + "\n")
    os.replace(partial, output)


if __name__ == "__main__":
    main(sys.argv[1:])
